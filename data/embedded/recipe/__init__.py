"""How the next built-in music and model are made: composer, samples, language model, the ear of its codec."""
