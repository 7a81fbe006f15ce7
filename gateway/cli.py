"""The command line: `fieldgate …`. Commands live in gateway.commands; CLI.md describes them and the exit codes."""

from __future__ import annotations

import click

from gateway.commands import box, central, device, evidence, findings, profiles, rules, simulate
from gateway.commands.output import Guarded


@click.group(cls=Guarded, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="fieldgate", prog_name="fieldgate")
def main() -> None:
    """Fieldgate, an edge evidence gateway: stores before it acknowledges, seals everything in one Merkle log."""


for command in (
    box.init,
    box.check,
    box.enrol,
    box.run,
    box.status,
    box.demo,
    evidence.verify,
    evidence.export,
    evidence.bundles,
    evidence.pull,
    findings.findings,
    device.device,
    profiles.profile,
    rules.rules,
    simulate.simulate,
    central.platform,
):
    main.add_command(command)


if __name__ == "__main__":
    main()
