"""The API of OpenAI: requests become those of models that write text or make embeddings, and back."""
