import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'

/** Who may import whom, of ours. A trailing slash stands for any file of the folder. */
const mayImport: Record<string, readonly string[]> = {
  spiffe: [],
  platform: [],
  proto: [],
  policies: ['spiffe/index.js'],
  sentry: [
    'spiffe/index.js',
    'spiffe/asn1/index.js',
    'spiffe/tls/index.js',
    'spiffe/grpc/index.js',
    'platform/',
    'proto/',
  ],
  'trust-bundles': ['spiffe/index.js', 'platform/'],
  agent: [
    'spiffe/index.js',
    'spiffe/asn1/index.js',
    'spiffe/tls/index.js',
    'spiffe/grpc/index.js',
    'spiffe/workload-api/index.js',
    'platform/',
    'proto/',
  ],
  sidecar: [
    'spiffe/index.js',
    'spiffe/tls/index.js',
    'spiffe/workload-api/index.js',
    'platform/',
    'proto/',
    'policies/index.js',
  ],
}

/** Who may import which packages. A rule names a folder or one file; a package not named here is open to nobody. */
const mayUsePackage: Record<string, readonly string[]> = {
  '@grpc/grpc-js': [
    'spiffe/workload-api/',
    'spiffe/grpc/',
    'sentry/',
    'agent/',
    'sidecar/policy-source.ts',
    'proto/',
  ],
  '@bufbuild/protobuf': ['spiffe/workload-api/gen/', 'proto/'],
  '@peculiar/x509': ['sentry/'],
  'reflect-metadata': ['sentry/'],
  kysely: ['sentry/datastore/'],
  '@photostructure/sqlite': ['sentry/datastore/'],
  koffi: ['agent/attestation/peer.ts'],
  pino: ['platform/log.ts'],
  'prom-client': ['platform/metrics.ts'],
  yaml: ['policies/parse.ts', 'policies/yaml-text.ts'],
}

/** Time, chance and the environment come in through `platform/` and `cli/`; the library has a file of its own for it. */
const impure =
  /\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bprocess\.(env|hrtime)\b|\bMath\.random\b|\bset(Timeout|Interval)\(|\bAbortSignal\.timeout\b/
const mayBeImpure = ['spiffe/runtime.ts']

const importTarget = /(?:\bfrom\s+|\bimport\s*\(\s*|^import\s+)['"]([^'"]+)['"]/gm

const rooms = Object.keys(mayImport)
const root = resolve(import.meta.dirname, '..')

describe('the house', async () => {
  const files = (await Promise.all(rooms.map(sourcesOf))).flat()

  test.each(rooms)('%s imports only what its row of the table allows', (room) => {
    const found = files.filter((file) => file.room === room).flatMap(forbiddenImports)
    expect(found).toEqual([])
  })

  test('packages are used only in the rooms that may', () => {
    expect(files.flatMap(forbiddenPackages)).toEqual([])
  })

  test('time, chance and the environment come in by the front door', () => {
    const found = files
      .filter(
        ({ room, path }) => room !== 'platform' && room !== 'proto' && !mayBeImpure.includes(path),
      )
      .flatMap(({ path, text }) => matchingLines(path, text, impure))
    expect(found).toEqual([])
  })

  test('nothing trusts the verdict of OpenSSL on a peer', () => {
    const found = files.flatMap(({ path, text }) =>
      matchingLines(path, text, /\.authorized\b|getPeerX509Certificate/),
    )
    expect(found).toEqual([])
  })

  test('peer certificates are read in one place', () => {
    const found = files
      .filter(({ path }) => !path.startsWith('spiffe/tls/'))
      .flatMap(({ path, text }) => matchingLines(path, text, /getPeerCertificate/))
    expect(found).toEqual([])
  })

  test('nothing imports the command line', async () => {
    expect(
      files
        .filter(({ imports }) => imports.some((path) => path.startsWith('cli/')))
        .map(({ path }) => path),
    ).toEqual([])
  })
})

interface Source {
  readonly room: string
  readonly path: string
  readonly text: string
  readonly imports: readonly string[]
  readonly packages: readonly string[]
}

async function sourcesOf(room: string): Promise<Source[]> {
  const names = await readdir(join(root, room), { recursive: true })
  const sources = names.filter(
    (name) => /\.tsx?$/.test(name) && !/(^|\/)(dist|node_modules)\//.test(name),
  )
  return Promise.all(
    sources.map(async (name) => {
      const path = `${room}/${name}`
      const text = await readFile(join(root, path), 'utf8')
      const targets = [...text.matchAll(importTarget)].map(([, target = '']) => target)
      const own = targets.filter((target) => target.startsWith('.'))
      return {
        room,
        path,
        text,
        imports: own.map((target) => relative(root, resolve(root, dirname(path), target))),
        packages: targets.filter(
          (target) => !target.startsWith('.') && !target.startsWith('node:'),
        ),
      }
    }),
  )
}

function forbiddenImports({ room, path, imports }: Source): string[] {
  const allowed = [`${room}/`, ...(mayImport[room] ?? [])]
  return imports
    .filter(
      (target) =>
        !allowed.some((rule) => (rule.endsWith('/') ? target.startsWith(rule) : target === rule)),
    )
    .map((target) => `${path} imports ${target}`)
}

function forbiddenPackages({ path, packages }: Source): string[] {
  return packages
    .map((target) =>
      target
        .split('/')
        .slice(0, target.startsWith('@') ? 2 : 1)
        .join('/'),
    )
    .filter(
      (name) =>
        !(mayUsePackage[name] ?? []).some((rule) =>
          rule.endsWith('/') ? path.startsWith(rule) : path === rule,
        ),
    )
    .map((name) => `${path} uses ${name}`)
}

function matchingLines(path: string, text: string, pattern: RegExp): string[] {
  return text
    .split('\n')
    .map((line, at) => ({ line, at: at + 1 }))
    .filter(({ line }) => pattern.test(line.replace(/\/\/.*$|^\s*\*.*$/, '')))
    .map(({ line, at }) => `${path}:${at} ${line.trim()}`)
}
