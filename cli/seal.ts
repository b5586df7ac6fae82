import { join } from 'node:path'
import { readRequired } from '../platform/files.js'
import { ensureKeyFile, openSealer, type Sealer } from '../platform/sealer.js'
import type { CliContext } from './context.js'
import { CliError } from './errors.js'

interface SealSettings {
  readonly key_file?: string
  readonly passphrase_file?: string
  readonly passphrase_variable?: string
}

const MAX_PASSPHRASE_BYTES = 4096

/**
 * Opens what seals the data in a folder: the one source that is configured, else a key file beside the
 * data. Throws `CS_CONFIG_INVALID` for several sources, and as `openSealer` does.
 */
export async function sealerFor(
  settings: SealSettings,
  folder: string,
  context: CliContext,
): Promise<Sealer> {
  const named = Object.entries(settings).filter(([, value]) => value !== undefined)
  if (named.length > 1) {
    throw new CliError(
      'CS_CONFIG_INVALID',
      `seal takes one of ${named.map(([name]) => name).join(', ')}, not several`,
    )
  }
  if (settings.key_file !== undefined)
    return openSealer({ kind: 'key-file', path: settings.key_file })
  const passphrase = await passphraseFrom(settings, context)
  if (passphrase !== undefined)
    return openSealer({ kind: 'passphrase', passphrase, saltPath: join(folder, 'seal.salt') })
  const path = join(folder, 'seal.key')
  await ensureKeyFile(path)
  return openSealer({ kind: 'key-file', path })
}

async function passphraseFrom(
  settings: SealSettings,
  context: CliContext,
): Promise<string | undefined> {
  if (settings.passphrase_file !== undefined) {
    const text = (await readRequired(settings.passphrase_file, MAX_PASSPHRASE_BYTES)).toString(
      'utf8',
    )
    return text.split(/\r?\n/)[0]
  }
  if (settings.passphrase_variable === undefined) return undefined
  const text = context.environment[settings.passphrase_variable]
  if (text === undefined) {
    throw new CliError(
      'CS_CONFIG_INVALID',
      `seal.passphrase_variable names ${settings.passphrase_variable}, which is not set`,
    )
  }
  return text
}
