import { execFile } from 'node:child_process'
import { cp, readdir, readFile, symlink } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { describe, expect, test } from 'vitest'
import { tempFolder } from './support/temp-folder.js'

const run = promisify(execFile)
const root = resolve(import.meta.dirname, '..')

describe('generated code', () => {
  test.each([
    ['proto/gen', 'proto/buf.gen.yaml'],
    ['spiffe/workload-api/gen', 'spiffe/workload-api/buf.gen.yaml'],
  ])(
    '%s is what its .proto files make',
    async (generated, template) => {
      await using copy = await tempFolder()
      for (const name of ['proto', 'spiffe/workload-api', 'buf.yaml']) {
        await cp(join(root, name), copy.file(name), { recursive: true })
      }
      await symlink(join(root, 'node_modules'), copy.file('node_modules'))
      const bin = join(root, 'node_modules/.bin')
      await run(join(bin, 'buf'), ['generate', '--template', template], {
        cwd: copy.path,
        env: { ...process.env, PATH: `${bin}:${process.env.PATH}` },
      })

      expect(await contentsOf(copy.file(generated))).toEqual(
        await contentsOf(join(root, generated)),
      )
    },
    60_000,
  )
})

async function contentsOf(folder: string): Promise<Record<string, string>> {
  const names = (await readdir(folder, { recursive: true }))
    .filter((name) => name.endsWith('.ts'))
    .sort()
  return Object.fromEntries(
    await Promise.all(
      names.map(async (name) => [name, await readFile(join(folder, name), 'utf8')]),
    ),
  )
}
