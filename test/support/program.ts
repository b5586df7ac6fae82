import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { symlink } from 'node:fs/promises'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { rolldown } from 'rolldown'
import type { TempFolder } from './temp-folder.js'

/** A program of a test in a process of its own, so that it can be killed. */
export interface Program extends AsyncDisposable {
  /** What it prints, line by line. */
  readonly lines: AsyncIterable<string>
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>
}

/** Makes one JavaScript file of a TypeScript program and gives its path. Packages stay where they are. */
export async function buildProgram(source: URL, folder: TempFolder): Promise<string> {
  const target = folder.file('program.mjs')
  const bundle = await rolldown({
    input: fileURLToPath(source),
    platform: 'node',
    external: (id) => !id.startsWith('.') && !id.startsWith('/'),
  })
  await bundle.write({ file: target, format: 'esm' })
  await bundle.close()
  const packages = fileURLToPath(new URL('../../node_modules', import.meta.url))
  await symlink(packages, folder.file('node_modules'))
  return target
}

export function runProgram(path: string, args: readonly string[]): Program {
  const child: ChildProcessByStdio<null, Readable, null> = spawn(
    process.execPath,
    [path, ...args],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const gone = new Promise<void>((resolve) => child.once('close', () => resolve()))
  const kill = async () => {
    child.kill('SIGKILL')
    await gone
  }
  return {
    lines: createInterface({ input: child.stdout }),
    kill,
    [Symbol.asyncDispose]: kill,
  }
}
