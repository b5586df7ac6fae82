import { expect, test } from 'vitest'
import type { AgentRecord } from '../../../sentry/attestation/agent-record.js'
import { agentTable } from '../../../sentry/attestation/agent-record.js'
import { recordAttestation } from '../../../sentry/attestation/agents.js'
import { type Draft, draftOver } from '../../../sentry/datastore/draft.js'
import { memoryTable } from '../../../sentry/datastore/table.js'
import { parseSpiffeId } from '../../../spiffe/index.js'

const id = parseSpiffeId('spiffe://prod.example/spire/agent/x509pop/abc')

const node = (claim: () => void = () => undefined) => ({
  agentId: id,
  selectors: [
    { type: 'x509pop', value: 'subject:cn:a' },
    { type: 'x509pop', value: 'subject:cn:a' },
  ],
  canReattest: true,
  claim,
})

const attest = (draft: Draft, serialNumber: string, claim?: () => void) =>
  recordAttestation(draft, {
    node: node(claim),
    attestationType: 'x509pop',
    issue: () => ({ serialNumber, notAfter: 1000 }),
  })

const emptyDraft = () => draftOver((table) => memoryTable(table)).draft

const recordIn = (draft: Draft): AgentRecord | undefined => draft.table(agentTable).get(id)

test('attesting again makes the new certificate the only one and keeps what was said of the agent', () => {
  const draft = emptyDraft()
  const first = attest(draft, 'a1')
  expect(first.selectors).toEqual([{ type: 'x509pop', value: 'subject:cn:a' }])
  draft.table(agentTable).put({
    ...first,
    version: '1.2.3',
    renewed: { serialNumber: 'a2', notAfter: 2000 },
  })
  attest(draft, 'b1')
  expect(recordIn(draft)).toMatchObject({
    current: { serialNumber: 'b1', notAfter: 1000 },
    renewed: undefined,
    version: '1.2.3',
    attestationType: 'x509pop',
  })
})

test('a banned agent cannot attest, and its evidence is not used up', () => {
  const draft = emptyDraft()
  const first = attest(draft, 'a1')
  draft.table(agentTable).put({ ...first, current: undefined })
  let claimed = false
  expect(() =>
    attest(draft, 'b1', () => {
      claimed = true
    }),
  ).toThrow(
    expect.objectContaining({
      code: 'CS_AGENT_BANNED',
      message: 'failed to attest: agent is banned',
    }),
  )
  expect([claimed, recordIn(draft)?.current]).toEqual([false, undefined])
})
