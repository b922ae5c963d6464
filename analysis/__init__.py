"""Tables, figures and the report: pure functions of manifests, metrics and samples. CPU only, no torch.

Every rule of ``rules/analysis.smk`` is the script of its name: ``python -m analysis.NAME --out DIR --manifests ...``.
"""
