import { spawn } from 'node:child_process'
import { cp, readFile, symlink } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { listenOn } from '../../platform/listen.js'
import { tempFolder } from '../support/temp-folder.js'
import { missing } from '../support/tools.js'

const root = resolve(import.meta.dirname, '../..')
const shell = { probe: ['bash', '--version'], install: 'apt-get install bash' } as const
/** Less than the test is given, so that nothing is left running when it fails. */
const SCRIPT_TIMEOUT_MS = 90_000

const curl = { probe: ['curl', '--version'], install: 'apt-get install curl' } as const

describe.skipIf(missing('the quickstart as a person types it', shell, curl))(
  'the quickstart',
  () => {
    test('has between 600 and 900 words', async () => {
      const words = (await readFile(join(root, 'docs/quickstart.md'), 'utf8')).trim().split(/\s+/)
      expect(words.length).toBeGreaterThanOrEqual(600)
      expect(words.length).toBeLessThanOrEqual(900)
    })

    test('works as it is written', async () => {
      const page = await readFile(join(root, 'docs/quickstart.md'), 'utf8')
      const blocks = [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, block = '']) => block)
      // The product is built already; a script does not expand aliases unless it is told to.
      const script = await onFreePorts(
        blocks.map((block) => block.replace(/^npm (ci|run build)$/gm, '')).join('\n'),
      )
      await using folder = await tempFolder()
      await cp(join(root, 'dist'), folder.file('dist'), { recursive: true })
      await cp(join(root, 'package.json'), folder.file('package.json'))
      await symlink(join(root, 'node_modules'), folder.file('node_modules'))

      const { code, output } = await bash(
        `set -eu\nshopt -s expand_aliases\n${script}\nwait`,
        folder.path,
      )
      expect(output).toContain('GET /orders/42 for spiffe://example.test/ns/shop/sa/shop')
      expect(output).toMatch(/"decision_id"/)
      expect(output).toMatch(/no-rule/)
      expect(code).toBe(0)
    }, 120_000)
  },
)

/** The page names ports that are rarely taken; a test may not count on that. */
async function onFreePorts(script: string): Promise<string> {
  const named = [...new Set(script.match(/\b1[89]\d{3}\b/g))]
  const servers = await Promise.all(
    named.map(async (port) => {
      const server = createServer()
      return { port, server, free: await listenOn(server, { host: '127.0.0.1', port: 0 }) }
    }),
  )
  const free = new Map(servers.map((one) => [one.port, String(one.free.port)]))
  await Promise.all(servers.map(({ server }) => new Promise((done) => server.close(done))))
  return script.replace(/\b1[89]\d{3}\b/g, (port) => free.get(port) ?? port)
}

function bash(script: string, cwd: string): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn('bash', ['-s'], { cwd, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    let output = ''
    const add = (chunk: Buffer) => {
      output += chunk.toString('utf8')
    }
    child.stdout.on('data', add)
    child.stderr.on('data', add)
    const tooLate = setTimeout(() => child.kill('SIGKILL'), SCRIPT_TIMEOUT_MS)
    child.once('exit', (code) => {
      clearTimeout(tooLate)
      // What the script left running belongs to its process group.
      try {
        if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
      } catch {
        // Nothing was left.
      }
      resolve({ code: code ?? 1, output })
    })
    child.stdin.end(script)
  })
}
