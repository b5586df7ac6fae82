import { expect, test } from 'vitest'
import { entry } from '../support/fake-sentry.js'
import { untilHeld, world } from './running-agent.js'

test('an agent attests with a join token and has an SVID for every entry before anybody asks', async () => {
  await using w = await world()
  w.sentry.addToken('secret-token')
  w.sentry.setEntries(entry({ id: 'e1', path: '/shop' }), entry({ id: 'e2', path: '/orders' }))
  const agent = await w.agent({ joinToken: 'secret-token' })
  await agent.whenReady(AbortSignal.timeout(3_000)).catch((e) => { console.log(w.log.lines, w.sentry.calls, agent.identities.status()); throw e })
  await untilHeld(agent, () => agent.identities.status().x509Svids === 2)

  const [shop, orders] = agent.identities.entries()
  expect(shop && agent.identities.x509Svid(shop)?.id).toBe('spiffe://prod.example/shop')
  expect(orders && agent.identities.x509Svid(orders)?.id).toBe('spiffe://prod.example/orders')
})
