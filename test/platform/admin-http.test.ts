import { connect, createServer } from 'node:net'
import { describe, expect, test } from 'vitest'
import { serveAdmin } from '../../platform/admin-http.js'
import { formatHostPort, listenOn, parseHostPort } from '../../platform/listen.js'
import { createMetrics } from '../../platform/metrics.js'

const loopback = { host: '127.0.0.1', port: 0 }

describe('the admin endpoint', () => {
  test('tells alive from ready, and why not', async () => {
    let reasons: readonly string[] = ['CS_NO_IDENTITY: waits for the first SVID']
    await using admin = await serveAdmin({
      listen: loopback,
      metrics: createMetrics(),
      readiness: () => ({ ready: reasons.length === 0, reasons }),
      status: () => ({ sequence: 7n }),
    })
    const get = async (path: string) => {
      const answer = await fetch(`http://${formatHostPort(admin.address)}${path}`)
      return [answer.status, await answer.json()]
    }

    expect(await get('/livez')).toEqual([200, { live: true }])
    expect(await get('/healthz')).toEqual([200, { live: true }])
    expect(await get('/readyz')).toEqual([503, { ready: false, reasons }])
    reasons = []
    expect(await get('/readyz')).toEqual([200, { ready: true, reasons: [] }])
    expect(await get('/status')).toEqual([200, { sequence: 7 }])
    expect(await get('/elsewhere')).toEqual([404, expect.anything()])
  })

  test('serves metrics as Prometheus reads them', async () => {
    const metrics = createMetrics()
    metrics
      .counter({ name: 'countersign_test_total', help: 'A test', labels: ['reason'] })
      .inc({ reason: 'no-rule' })
    await using admin = await serveAdmin({
      listen: loopback,
      metrics,
      readiness: () => ({ ready: true, reasons: [] }),
    })
    const answer = await fetch(`http://${formatHostPort(admin.address)}/metrics`)

    expect(await answer.text()).toContain('countersign_test_total{reason="no-rule"} 1')
  })

  test('answers although somebody holds more connections open than it keeps', async () => {
    await using admin = await serveAdmin({
      listen: loopback,
      metrics: createMetrics(),
      readiness: () => ({ ready: true, reasons: [] }),
    })
    const idle = Array.from({ length: 80 }, () => connect(admin.address))
    const settled = idle.map(
      (socket) => new Promise((resolve) => socket.on('connect', resolve).on('error', resolve)),
    )
    try {
      await Promise.all(settled)
      const answer = await fetch(`http://${formatHostPort(admin.address)}/livez`)
      expect(answer.status).toBe(200)
    } finally {
      idle.forEach((socket) => void socket.destroy())
    }
  })

  test('only answers GET', async () => {
    await using admin = await serveAdmin({
      listen: loopback,
      metrics: createMetrics(),
      readiness: () => ({ ready: true, reasons: [] }),
    })
    const answer = await fetch(`http://${formatHostPort(admin.address)}/livez`, { method: 'POST' })
    expect(answer.status).toBe(405)
  })
})

describe('listening', () => {
  test('on a port that is taken says so by code', async () => {
    const first = createServer()
    const taken = await listenOn(first, loopback)
    await expect(listenOn(createServer(), taken)).rejects.toMatchObject({ code: 'CS_PORT_TAKEN' })
    await new Promise((resolve) => first.close(resolve))
  })

  test('on an address of another machine says so by code', async () => {
    await expect(listenOn(createServer(), { host: '192.0.2.1', port: 0 })).rejects.toMatchObject({
      code: 'CS_LISTEN_FAILED',
    })
  })

  test.each([
    ['127.0.0.1:80', { host: '127.0.0.1', port: 80 }],
    ['[::1]:443', { host: '::1', port: 443 }],
    [':8081', { host: '0.0.0.0', port: 8081 }],
    ['sentry.example:0', { host: 'sentry.example', port: 0 }],
    ['127.0.0.1', undefined],
    ['127.0.0.1:', undefined],
    ['127.0.0.1:65536', undefined],
    ['::1:80', undefined],
    ['a b:80', undefined],
  ])('reads %s', (text, address) => {
    expect(parseHostPort(text)).toEqual(address)
  })
})
