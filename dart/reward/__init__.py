"""The mapper's reward: agreement with the target, correctness, and anti-cheating detectors (design section 2)."""
