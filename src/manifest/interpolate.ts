import { err, ok, type Result } from '../base/errors.ts';

export interface InterpolationError {
  message: string;
  remedy: string;
}

const NAME = /^[A-Za-z_][A-Za-z0-9_]*/;

/**
 * The variables of the compose-spec: `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`, `${NAME:?message}`,
 * `${NAME?message}`, `${NAME:+value}`, `${NAME+value}`; `$$` is a dollar sign. The text after an operator is taken as
 * it stands, without variables in it. Unlike compose, a variable that is not set and has no default is an error:
 * an empty command or port that was not intended is worse than an error.
 */
export function interpolate(
  text: string,
  environment: Readonly<Record<string, string | undefined>>,
): Result<string, InterpolationError> {
  let out = '';
  let at = 0;
  for (;;) {
    const dollar = text.indexOf('$', at);
    if (dollar < 0) return ok(out + text.slice(at));
    out += text.slice(at, dollar);
    const rest = text.slice(dollar + 1, dollar + 4096);
    if (rest.startsWith('$')) {
      out += '$';
      at = dollar + 2;
      continue;
    }
    const braced = rest.startsWith('{');
    const name = NAME.exec(braced ? rest.slice(1) : rest)?.[0];
    if (name === undefined) return err(invalidReference('`$` does not start a variable'));
    let expression = '';
    if (braced) {
      const end = rest.indexOf('}');
      if (end < 0) return err(invalidReference(`\`\${${name}\` is not closed by \`}\``));
      expression = rest.slice(1 + name.length, end);
      at = dollar + 1 + end + 1;
    } else {
      at = dollar + 1 + name.length;
    }
    const value = substitute(name, expression, Object.hasOwn(environment, name) ? environment[name] : undefined);
    if (!value.ok) return value;
    out += value.value;
  }
}

function substitute(name: string, expression: string, value: string | undefined): Result<string, InterpolationError> {
  const operator = /^:?[-?+]/.exec(expression)?.[0];
  if (expression !== '' && operator === undefined) {
    return err(invalidReference(`\`\${${name}${expression}}\` is not a valid variable expression`));
  }
  const argument = expression.slice(operator?.length ?? 0);
  const configured = value !== undefined && !(operator?.startsWith(':') && value === '');
  if (operator?.endsWith('+')) return ok(configured ? argument : '');
  if (configured) return ok(value);
  if (operator?.endsWith('-')) return ok(argument);
  const why = operator?.endsWith('?') && argument !== '' ? `: ${argument}` : '';
  return err({
    message: `variable ${name} is not set${why}`,
    remedy: `set it in the environment of meshctl, write \`\${${name}:-default}\`, or \`$$\` for a dollar sign`,
  });
}

function invalidReference(message: string): InterpolationError {
  // biome-ignore lint/suspicious/noTemplateCurlyInString: these are the variables of the compose-spec
  return { message, remedy: 'write `${NAME}` or `${NAME:-default}` for a variable, `$$` for a dollar sign' };
}
