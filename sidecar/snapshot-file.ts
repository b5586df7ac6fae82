import { join } from 'node:path'
import { atomicWrite, ensurePrivateFolder, readIfPresent } from '../platform/files.js'
import { SignedSnapshot } from '../proto/gen/countersign/policy/v1/policy.js'
import { SidecarError } from './errors.js'

/** The last good snapshot on disk. It is signed, so it needs no sealing; it is checked again when it is read. */
export interface SnapshotFile {
  /** Undefined when there is none. Throws `CS_SNAPSHOT_UNTRUSTED` for bytes that are no signed snapshot. */
  read(): Promise<SignedSnapshot | undefined>
  write(signed: SignedSnapshot): Promise<void>
}

const NAME = 'policy.snapshot'
const MAX_BYTES = 80 * 2 ** 20

/** Throws `CS_FOLDER_UNUSABLE`. */
export async function snapshotFile(folder: string): Promise<SnapshotFile> {
  await ensurePrivateFolder(folder)
  const path = join(folder, NAME)
  return {
    async read() {
      const bytes = await readIfPresent(path, MAX_BYTES)
      return bytes && decode(bytes, path)
    },
    write: (signed) => atomicWrite(path, SignedSnapshot.encode(signed).finish()),
  }
}

/** Without a folder nothing is kept: a restart waits for the agent. */
export const noSnapshotFile: SnapshotFile = {
  read: () => Promise.resolve(undefined),
  write: () => Promise.resolve(),
}

function decode(bytes: Uint8Array, path: string): SignedSnapshot {
  try {
    return SignedSnapshot.decode(bytes)
  } catch (error) {
    throw new SidecarError('CS_SNAPSHOT_UNTRUSTED', `${path} is no signed snapshot`, {
      cause: error,
    })
  }
}
