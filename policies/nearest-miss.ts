import { pathOf, type SpiffeId, trustDomainOf } from '../spiffe/index.js'
import type { AccessRequest } from './decide.js'
import type { Condition, ConditionName, LinearQuestion, LinearRule } from './linear.js'
import { ONE, pathOfGrpc, REST, segmentsOfPath } from './pattern.js'
import { segmentsOfSource } from './selectors.js'

/** A failed condition weighs more than any distance within one. */
const PER_CONDITION = 1000

/**
 * How far a rule is from matching: 0 when it does. First by the number of conditions that fail, then
 * by how many segments of the caller's ID and of the path differ.
 */
export function distanceTo(
  { rule }: LinearRule,
  about: { readonly question: LinearQuestion; readonly failing: readonly Condition[] },
): number {
  const { question, failing } = about
  const failed = new Set(failing.map(({ name }) => name))
  // Protocol, method and path are about one operation: the first that fails takes the others with it.
  const alone = ['port', 'from', 'validity'].filter((name) => failed.has(name as ConditionName))
  const count = alone.length + (failed.has('path') ? 1 : 0)
  const within =
    (failed.has('port') ? ANOTHER_PORT : 0) +
    (failed.has('from') ? nearestSource(rule.from, question.caller) : 0) +
    (failed.has('method') ? 1 : 0) +
    (failed.has('path') ? pathDistance(rule.to ?? [], question.request) : 0)
  return count * PER_CONDITION + Math.min(PER_CONDITION - 1, within)
}

const nearestSource = (from: readonly string[], caller: SpiffeId | undefined) =>
  from.reduce((best, source) => Math.min(best, sourceDistance(source, caller)), FURTHEST)

/** Segments of an ID that differ from a source's; another kind of caller is furthest. */
function sourceDistance(source: string, caller: SpiffeId | undefined): number {
  if (caller === undefined || !source.startsWith('spiffe://')) return FURTHEST
  return segmentDistance(segmentsOfSource(source), [
    trustDomainOf(caller),
    ...segmentsOfPath(pathOf(caller)),
  ])
}

const FURTHEST = 100
/** What listens on another port is rarely what was meant. */
const ANOTHER_PORT = 50

function pathDistance(
  operations: NonNullable<LinearRule['rule']['to']>,
  request: AccessRequest,
): number {
  if (request.kind === 'tcp') return FURTHEST
  const path = segmentsOfPath(request.path)
  const patterns = operations.flatMap((operation) => {
    if (operation.kind === 'tcp') return []
    if (operation.kind === 'grpc') return operation.methods.map(pathOfGrpc)
    return operation.paths ?? []
  })
  return patterns
    .map((pattern) => segmentDistance(segmentsOfPath(pattern), path))
    .reduce((best, distance) => Math.min(best, distance), FURTHEST)
}

/** Places in which two lists of segments differ, counting what one has more than the other. */
function segmentDistance(pattern: readonly string[], segments: readonly string[]): number {
  const open = pattern.at(-1) === REST
  const fixed = open ? pattern.slice(0, -1) : pattern
  const differing = fixed.filter(
    (segment, at) => segment !== ONE && segment !== segments[at],
  ).length
  const surplus = segments.length - fixed.length
  return differing + (open ? 0 : Math.max(0, surplus))
}
