"""How the built-in music and model were made: composer, samples, language model, judges, evaluations."""
