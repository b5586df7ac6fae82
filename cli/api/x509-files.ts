import { join } from 'node:path'
import { atomicWrite, ensurePrivateFolder } from '../../platform/files.js'
import type { X509Context } from '../../spiffe/workload-api/index.js'
import { pemOf } from './views.js'

const PUBLIC_MODE = 0o644
const PRIVATE_MODE = 0o600

/**
 * Writes every SVID with its key and every bundle as PEM and gives the paths. Only the owner may read
 * the keys, which are not sealed. Throws `CS_FOLDER_UNUSABLE`, `CS_FILE_UNWRITABLE`.
 */
export async function writeX509Files(
  { svids, bundles }: X509Context,
  folder: string,
): Promise<readonly string[]> {
  const files = [
    ...svids.flatMap(({ chain, privateKey }, at) => [
      {
        name: `svid.${at}.key`,
        text: () => privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
        mode: PRIVATE_MODE,
      },
      { name: `svid.${at}.pem`, text: () => pemOf(chain), mode: PUBLIC_MODE },
    ]),
    ...[...bundles.values()].map(({ trustDomain, x509Authorities }) => ({
      name: `bundle.${trustDomain}.pem`,
      text: () => pemOf(x509Authorities),
      mode: PUBLIC_MODE,
    })),
  ]
  await ensurePrivateFolder(folder)
  for (const { name, text, mode } of files) await atomicWrite(join(folder, name), text(), mode)
  return files.map(({ name }) => join(folder, name))
}
