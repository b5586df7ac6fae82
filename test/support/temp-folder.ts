import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A folder of one's own that is gone, with all in it, when the scope ends: `await using dir = await tempFolder()`. */
export interface TempFolder extends AsyncDisposable {
  readonly path: string
  /** A path inside; short enough for a Unix socket. */
  file(name: string): string
}

export async function tempFolder(): Promise<TempFolder> {
  const path = await mkdtemp(join(tmpdir(), 'cs-'))
  return {
    path,
    file: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  }
}
