"""Who answers: OpenAI-compatible servers, vLLM in this process, keyword rules."""
