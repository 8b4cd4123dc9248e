import type { Command } from 'commander';

interface Words {
  /** Words before the one to complete: `meshctl service`. */
  path: string[];
  words: string[];
  /** Whether a file may stand here. */
  files: boolean;
}

/** A completion script for a shell, made from the commands themselves. */
export function completion(program: Command, shell: 'bash' | 'zsh' | 'fish'): string {
  const places = placesOf(program, []);
  if (shell === 'fish') return fish(program, places);
  const cases = places
    .map(({ path, words, files }) => {
      const reply = `COMPREPLY=($(compgen ${files ? '-f ' : ''}-W "${words.join(' ')}" -- "$word"))`;
      return `    "${path.join(' ')}") ${reply} ;;`;
    })
    .join('\n');
  const options = program.options.flatMap((option) => (option.long === undefined ? [] : [option.long])).join(' ');
  const bash = `_meshctl() {
  local word="\${COMP_WORDS[COMP_CWORD]}" path="" known
  for known in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $known" in
${commandPaths(places)}
    esac
  done
  case "$path" in
${cases}
  esac
  [[ $word == --* ]] && COMPREPLY+=($(compgen -W "${options}" -- "$word"))
  return 0
}
complete -o filenames -F _meshctl meshctl
`;
  return shell === 'bash' ? bash : `autoload -U +X bashcompinit && bashcompinit\n${bash}`;
}

function placesOf(command: Command, path: string[]): Words[] {
  const subcommands = command.commands;
  const options = command.options.flatMap((option) =>
    path.length > 0 && option.long !== undefined ? [option.long] : [],
  );
  const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  const files = command.registeredArguments.some((argument) => argument.name() === 'file');
  return [
    { path, words: [...subcommands.map((inner) => inner.name()), ...choices, ...options, '--help'], files },
    ...subcommands.flatMap((inner) => placesOf(inner, [...path, inner.name()])),
  ];
}

const commandPaths = (places: readonly Words[]): string =>
  places
    .filter(({ path }) => path.length > 0)
    .map(({ path }) => {
      const before = path.slice(0, -1).join(' ');
      return `      "${before} ${path.at(-1)}") path="${path.join(' ')}" ;;`;
    })
    .join('\n');

function fish(program: Command, places: readonly Words[]): string {
  const lines = ['complete -c meshctl -f'];
  for (const { path, words, files } of places) {
    const seen = path.map((word) => `__fish_seen_subcommand_from ${word}`);
    const children = places.filter(
      (place) => place.path.length === path.length + 1 && path.every((word, at) => place.path[at] === word),
    );
    const unseen =
      children.length === 0
        ? []
        : [`not __fish_seen_subcommand_from ${children.map((child) => child.path.at(-1)).join(' ')}`];
    const condition = [...seen, ...unseen].join('; and ') || 'true';
    const plain = words.filter((word) => !word.startsWith('-'));
    if (plain.length > 0) lines.push(`complete -c meshctl -n "${condition}" -a "${plain.join(' ')}"`);
    for (const word of words.filter((word) => word.startsWith('--')))
      lines.push(`complete -c meshctl -n "${condition}" -l ${word.slice(2)}`);
    if (files) lines.push(`complete -c meshctl -n "${condition}" -F`);
  }
  for (const { long } of program.options) if (long !== undefined) lines.push(`complete -c meshctl -l ${long.slice(2)}`);
  return `${lines.join('\n')}\n`;
}
