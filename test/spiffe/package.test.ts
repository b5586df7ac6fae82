import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import { spiffeStandards } from '../../spiffe/index.js'

const root = resolve(import.meta.dirname, '../..')
const textOf = (path: string) => readFile(join(root, path), 'utf8')
const jsonOf = async (path: string) => JSON.parse(await textOf(path)) as Manifest

interface Manifest {
  readonly version: string
  readonly dependencies: Readonly<Record<string, string>>
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly files: readonly string[]
}

test('every entrance of the package is a file that is built into it', async () => {
  const { exports, files } = await jsonOf('spiffe/package.json')
  expect(files).toEqual(['dist/'])
  for (const { types, default: code } of Object.values(exports)) {
    const source = code?.replace(/^\.\/dist\/(.*)\.js$/, 'spiffe/$1.ts') ?? ''
    expect(types).toBe(code?.replace(/\.js$/, '.d.ts'))
    await expect(textOf(source)).resolves.toBeDefined()
  }
})

test('the package names what it imports, in the versions of the whole', async () => {
  const [own, whole] = [await jsonOf('spiffe/package.json'), await jsonOf('package.json')]
  const names = (await readdir(join(root, 'spiffe'), { recursive: true })).filter(
    (name) => name.endsWith('.ts') && !/^(dist|node_modules)\//.test(name),
  )
  const texts = await Promise.all(names.map((name) => textOf(`spiffe/${name}`)))
  const packages = texts.flatMap((text) =>
    [...text.matchAll(/\bfrom\s+['"]((?:@[\w-]+\/)?[\w-]+)[\w/-]*['"]/g)].map(
      ([, name = '']) => name,
    ),
  )
  const wanted = Object.keys(own.dependencies).toSorted((a, b) => a.localeCompare(b))
  expect(
    [...new Set(packages)].filter((name) => name !== 'node').toSorted((a, b) => a.localeCompare(b)),
  ).toEqual(wanted)
  for (const name of wanted) expect(own.dependencies[name]).toBe(whole.dependencies[name])
  expect(own.version).toBe(whole.version)
  expect(await textOf('spiffe/LICENSE')).toBe(await textOf('LICENSE'))
})

test('ST-2 the revision of the standards is named, and the documentation names the same', async () => {
  expect(spiffeStandards.revision).toMatch(/^[0-9a-f]{12}$/)
  expect(await textOf('docs/architecture.md')).toContain(spiffeStandards.revision)
})
