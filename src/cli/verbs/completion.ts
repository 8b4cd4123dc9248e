import type { Command } from 'commander';

interface CompletionContext {
  /** Words before the one to complete, without `meshctl`. */
  commandPath: string[];
  words: string[];
  /** Whether the command takes files. */
  files: boolean;
}

/** A completion script for a shell, generated from the program. */
export function completion(program: Command, shell: 'bash' | 'zsh' | 'fish'): string {
  const contexts = completionContexts(program, []);
  if (shell === 'fish') return fishScript(program, contexts);
  const cases = contexts
    .map(({ commandPath: path, words, files }) => {
      const reply = `COMPREPLY=($(compgen ${files ? '-f ' : ''}-W "${words.join(' ')}" -- "$word"))`;
      return `    "${path.join(' ')}") ${reply} ;;`;
    })
    .join('\n');
  const options = program.options.flatMap((option) => (option.long === undefined ? [] : [option.long])).join(' ');
  const bash = `_meshctl() {
  local word="\${COMP_WORDS[COMP_CWORD]}" path="" known
  for known in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$path $known" in
${commandPaths(contexts)}
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

function completionContexts(command: Command, path: string[]): CompletionContext[] {
  const subcommands = command.commands;
  const options = command.options.flatMap((option) =>
    path.length > 0 && option.long !== undefined ? [option.long] : [],
  );
  const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  const files = command.registeredArguments.some((argument) => argument.name() === 'file');
  return [
    {
      commandPath: path,
      words: [...subcommands.map((inner) => inner.name()), ...choices, ...options, '--help'],
      files,
    },
    ...subcommands.flatMap((inner) => completionContexts(inner, [...path, inner.name()])),
  ];
}

const commandPaths = (contexts: readonly CompletionContext[]): string =>
  contexts
    .filter(({ commandPath: path }) => path.length > 0)
    .map(({ commandPath: path }) => {
      const before = path.slice(0, -1).join(' ');
      return `      "${before} ${path.at(-1)}") path="${path.join(' ')}" ;;`;
    })
    .join('\n');

function fishScript(program: Command, contexts: readonly CompletionContext[]): string {
  const lines = ['complete -c meshctl -f'];
  for (const { commandPath: path, words, files } of contexts) {
    const seen = path.map((word) => `__fish_seen_subcommand_from ${word}`);
    const children = contexts.filter(
      (context) =>
        context.commandPath.length === path.length + 1 && path.every((word, at) => context.commandPath[at] === word),
    );
    const unseen =
      children.length === 0
        ? []
        : [`not __fish_seen_subcommand_from ${children.map((child) => child.commandPath.at(-1)).join(' ')}`];
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
