import { type HostPort, parseHostPort } from '../../platform/listen.js'
import { CliError } from '../errors.js'

/** A setting that has no default and must be given. Throws `CS_CONFIG_INVALID`. */
export function required(name: string, value: string | undefined): string {
  if (value !== undefined) return value
  const flag = `--${name.replaceAll(/[._]/g, '-')}`
  throw new CliError(
    'CS_CONFIG_INVALID',
    `${name} is missing: set it in the configuration file or with ${flag}`,
  )
}

/** An address that the schema has let through already. */
export function requiredAddress(name: string, value: string | undefined): HostPort {
  const read = parseHostPort(required(name, value))
  if (!read)
    throw new CliError(
      'CS_CONFIG_INVALID',
      `${name} takes an address such as 127.0.0.1:8081, not ${value}`,
    )
  return read
}
