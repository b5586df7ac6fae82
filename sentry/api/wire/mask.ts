/**
 * Keeps the fields whose bit is set, and those that are never masked. Without a mask all are kept. What
 * is left out has its default, which protobuf does not send.
 */
export function masked<Message extends object>(
  message: Message,
  options: {
    readonly mask: object | undefined
    readonly defaults: Message
    readonly always: readonly (keyof Message)[]
  },
): Message {
  const { mask, defaults, always } = options
  if (!mask) return message
  const bits = mask as Readonly<Record<string, boolean>>
  const kept = Object.entries(message).filter(
    ([field]) => bits[field] === true || always.includes(field as keyof Message),
  )
  return { ...defaults, ...Object.fromEntries(kept) }
}
