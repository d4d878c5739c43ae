"""The parts of the evaluation of the built-in model, one module each; ``evaluate`` runs them all."""
