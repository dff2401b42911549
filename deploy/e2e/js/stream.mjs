// stream.mjs BASE ROUTE REQUEST: streams one answer with the official client of
// the route and prints a JSON line that says which node answers, one for each
// piece of text, and one for the end. An error of the client is its exit status.
import { Ollama } from 'ollama'
import OpenAI from 'openai'

const [base, route, request] = process.argv.slice(2)
const body = JSON.parse(request)
const say = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const told = async (...args) => {
  const response = await fetch(...args)
  say({ node: response.headers.get('x-kage-node') })
  return response
}

if (route === '/v1/chat/completions') {
  const client = new OpenAI({ baseURL: base + '/v1', apiKey: 'none', maxRetries: 0, fetch: told })
  const ids = new Set()
  let reason, usage
  for await (const chunk of await client.chat.completions.create(body)) {
    ids.add(chunk.id)
    const choice = chunk.choices[0]
    if (choice?.delta?.content) say({ text: choice.delta.content })
    reason = choice?.finish_reason ?? reason
    usage = chunk.usage ?? usage
  }
  say({ done: true, reason, tokens: usage?.completion_tokens, ids: ids.size })
} else {
  const client = new Ollama({ host: base, fetch: told })
  const call = route === '/api/chat' ? client.chat.bind(client) : client.generate.bind(client)
  let last
  for await (const part of await call({ ...body, stream: true })) {
    const text = part.message?.content ?? part.response
    if (text) say({ text })
    last = part
  }
  if (!last.done) throw new Error('the stream has no last record')
  say({ done: true, reason: last.done_reason, tokens: last.eval_count, ids: 1 })
}
