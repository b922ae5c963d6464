# What everything would cost on this machine (`snakemake plan`), or on another device (`snakemake plan_H200`), by the
# model of docs/planning.md; runs nothing, writes nothing.
for device in cost_model.devices():
    for name in [f"plan_{device}", *(["plan"] if device == plan.HERE else [])]:

        rule:
            name:
                name
            localrule: True
            handover: True  # its output is for the terminal
            params:
                text=lambda wildcards, device=device: checked(plan.text, CONFIG, device, workflow.cores or 1),
            shell:
                "echo {params.text:q}"
