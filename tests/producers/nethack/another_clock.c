/* Preloaded into a process, time(2) is what the environment variable CLOCK says (seconds since the epoch). */
#include <stdlib.h>
#include <time.h>

time_t time(time_t *where)
{
    const char *clock = getenv("CLOCK");
    time_t now = clock ? (time_t) atoll(clock) : 0;

    if (where)
        *where = now;
    return now;
}
