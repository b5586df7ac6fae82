import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { reasonRooms, requestReasonRooms } from '../cli/reasons.js'
import { writeDocs } from '../scripts/generate-docs.js'
import { tempFolder } from './support/temp-folder.js'

const root = resolve(import.meta.dirname, '..')

describe('docs', () => {
  test('the pages made from code are what the code makes', async () => {
    await using made = await tempFolder()
    await writeDocs(made.path)
    for (const name of await readdir(made.path)) {
      const held = await readFile(join(root, 'docs', name), 'utf8')
      const fresh = await readFile(made.file(name), 'utf8')
      expect(held, `docs/${name} is stale: run npm run docs`).toBe(fresh)
    }
  })

  test('links between pages lead somewhere', async () => {
    const pages = [
      'README.md',
      ...(await readdir(join(root, 'docs')))
        .filter((name) => name.endsWith('.md'))
        .map((name) => `docs/${name}`),
    ]
    const broken: string[] = []
    for (const page of pages) {
      const text = await readFile(join(root, page), 'utf8')
      for (const [, target = ''] of text.matchAll(/\]\((?!https?:|#)([^)#\s]+)/g)) {
        const path = resolve(root, page, '..', target)
        await readFile(path).catch((error: NodeJS.ErrnoException) => {
          if (error.code !== 'EISDIR') broken.push(`${page}: ${target}`)
        })
      }
    }
    expect(broken).toEqual([])
  })
})

describe('the registry of reason codes', () => {
  test('each code has one home', () => {
    const codes = reasonRooms.flatMap(({ reasons }) => Object.keys(reasons))
    const twice = codes.filter((code, at) => codes.indexOf(code) !== at)
    expect(twice).toEqual([])
  })

  test('codes are spelt alike and explain themselves', () => {
    for (const { reasons } of reasonRooms) {
      for (const [code, { what, todo }] of Object.entries(reasons)) {
        expect(code).toMatch(/^CS_[A-Z0-9]+(_[A-Z0-9]+)*$/)
        expect(what, code).toMatch(/^[A-Z].*\.$/)
        expect(todo, code).toMatch(/^[A-Z].*\.$/)
      }
    }
  })

  test('reasons of requests are words, and explain themselves', () => {
    for (const { reasons } of requestReasonRooms) {
      for (const [word, { what, todo }] of Object.entries(reasons)) {
        expect(word).toMatch(/^[a-z]+(-[a-z]+)*(:[a-z]+(_[a-z]+)*)?$/)
        expect(what, word).toMatch(/^[A-Z].*\.$/)
        expect(todo, word).toMatch(/^[A-Z].*\.$/)
      }
    }
  })

  test('every code that the source throws is in the registry, and every row is used', async () => {
    const known = new Set(reasonRooms.flatMap(({ reasons }) => Object.keys(reasons)))
    const rooms = [
      'spiffe',
      'sentry',
      'trust-bundles',
      'agent',
      'policies',
      'sidecar',
      'platform',
      'cli',
    ]
    const used = new Set<string>()
    for (const room of rooms) {
      for (const name of await readdir(join(root, room), { recursive: true })) {
        if (!name.endsWith('.ts') || /(^|\/)(dist|gen|node_modules)\//.test(name)) continue
        const text = await readFile(join(root, room, name), 'utf8')
        const uses = [...text.matchAll(/['"`](CS_[A-Z0-9_]+[A-Z0-9])['"`]/g)].map(
          ([, code = '']) => code,
        )
        uses.forEach((code) => used.add(code))
      }
    }
    expect([...used].filter((code) => !known.has(code) && code !== 'CS_INTERNAL')).toEqual([])
    expect([...known].filter((code) => !used.has(code))).toEqual([])
  })
})
