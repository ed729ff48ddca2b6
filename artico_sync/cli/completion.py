"""`artico-sync completion`: what makes a shell complete the command line; main thread."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping

from artico_sync.cli.exit_status import ExitStatus
from artico_sync.cli.output import Output

SHELLS = ("bash", "zsh", "fish")

_BASH = """\
# artico-sync completion bash > ~/.local/share/bash-completion/completions/artico-sync
_artico_sync() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options
    case $before in
        {paths}) COMPREPLY=($(compgen -f -- "$word")); return ;;
    esac
    case ${{COMP_WORDS[1]}} in
{cases}
        *) options="{commands}" ;;
    esac
    ((COMP_CWORD > 1)) || options="{commands}"
    COMPREPLY=($(compgen -W "$options" -- "$word"))
}}
complete -o filenames -F _artico_sync artico-sync
"""
_ZSH = (
    '# eval "$(artico-sync completion zsh)" in ~/.zshrc\nautoload -U bashcompinit\nbashcompinit\n'
)


def completion(options: argparse.Namespace, output: Output) -> int:
    """Print the script of a shell; returns the exit status."""
    commands: Mapping[str, argparse.ArgumentParser] = options.commands
    # The help is the one public place that tells which options there are.
    helps = {
        name: parser.format_help().split("\nexit status:")[0] for name, parser in commands.items()
    }
    shell = {"bash": _bash, "zsh": lambda texts: _ZSH + _bash(texts), "fish": _fish}[options.shell]
    output.result(shell(helps).rstrip("\n"))
    return ExitStatus.OK


def _options(text: str) -> list[str]:
    return sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)))


def _path_options(text: str) -> set[str]:
    return set(re.findall(r"(--[a-z-]+) (?:FILE|DIR)\b", text))


def _bash(helps: Mapping[str, str]) -> str:
    paths = sorted(set().union(*(_path_options(text) for text in helps.values())))
    cases = "\n".join(
        f'        {name}) options="{" ".join(_options(text))}" ;;' for name, text in helps.items()
    )
    return _BASH.format(paths="|".join(paths), cases=cases, commands=" ".join(helps))


def _fish(helps: Mapping[str, str]) -> str:
    lines = ["# artico-sync completion fish > ~/.config/fish/completions/artico-sync.fish"]
    for name, text in helps.items():
        lines.append(f"complete -c artico-sync -n __fish_use_subcommand -f -a {name}")
        paths = _path_options(text)
        for option in _options(text):
            files = " -r -F" if option in paths else ""
            condition = f"'__fish_seen_subcommand_from {name}'"
            lines.append(f"complete -c artico-sync -n {condition} -l {option[2:]}{files}")
    return "\n".join(lines) + "\n"
