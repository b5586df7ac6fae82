import { expect, test } from 'vitest'
import { snapshotReports } from '../../../agent/identities/reports.js'

const report = {
  target: 'spiffe://prod.example/orders',
  instance: 'one',
  snapshotId: 'a',
  generation: 1n,
  state: 'current',
  code: '',
}
const nextTurn = () => new Promise((resolve) => setImmediate(resolve))

function watched() {
  const reports = snapshotReports((error) => {
    throw error
  })
  let told = 0
  reports.onReport(() => {
    told += 1
  })
  return { reports, told: () => told }
}

test('reports that come together are told once', async () => {
  const { reports, told } = watched()
  reports.report(report)
  reports.report({ ...report, instance: 'two' })
  await nextTurn()
  expect(told()).toBe(1)
  expect(reports.all()).toHaveLength(2)
})

test('a report that says nothing new is not told again', async () => {
  const { reports, told } = watched()
  reports.report(report)
  await nextTurn()
  reports.report({ ...report })
  await nextTurn()
  expect(told()).toBe(1)
  reports.report({ ...report, generation: 2n })
  await nextTurn()
  expect(told()).toBe(2)
})

test('a report that is forgotten is told, and one that nobody made is not', async () => {
  const { reports, told } = watched()
  reports.report(report)
  await nextTurn()
  reports.forget(report.target, 'two')
  await nextTurn()
  expect(told()).toBe(1)
  reports.forget(report.target, report.instance)
  await nextTurn()
  expect(told()).toBe(2)
  expect(reports.all()).toEqual([])
})
