import { request as httpRequest } from 'node:http'
import { describe, expect, test } from 'vitest'
import { startDemo } from '../support/demo.js'

const MINUTE = 60_000
const ROTATIONS = 3

describe('renewal of SVIDs under traffic', () => {
  test(
    'drops no request, at either sidecar',
    async () => {
      await using demo = await startDemo(['--svid-ttl', '8s'])
      const [host = '', port = ''] = demo.shop.split(':')
      const renewals = () => demo.events().filter(({ event }) => event === 'svid-renewed')
      const answers = new Map<string, number>()
      const note = (answer: string) => answers.set(answer, (answers.get(answer) ?? 0) + 1)
      const parts = ['orders', 'shop']
      const enough = () =>
        parts.every((part) => renewals().filter((event) => event.part === part).length >= ROTATIONS)

      const callers = Array.from({ length: 4 }, async () => {
        while (!enough()) note(await call({ host, port: Number(port) }))
      })
      await Promise.all(callers)
      expect([...answers.keys()]).toEqual(['200'])
      expect(answers.get('200')).toBeGreaterThan(100)
    },
    3 * MINUTE,
  )
})

/** The status, or what went wrong. */
function call(address: { host: string; port: number }): Promise<string> {
  return new Promise((resolve) => {
    const request = httpRequest({ ...address, path: '/orders/42', agent: false }, (answer) => {
      answer.resume()
      answer.on('end', () => resolve(String(answer.statusCode)))
      answer.on('error', (error) => resolve(error.message))
    })
    request.on('error', (error) => resolve(error.message))
    request.end()
  })
}
