#!/usr/bin/env python3
"""The official openai package, unmodified, against the server.

    test_openai.py PROGRAM [ARGUMENT...]     a program that serves one model and whose first line ends in the port

What the package sends and what it makes of the answers is the package's own;
this file only looks at the results.
SPDX-License-Identifier: Apache-2.0
"""
import subprocess
import sys
import time
import unittest

import openai

BASE = MODEL = None


def client(**options):
    return openai.OpenAI(base_url=BASE + "/v1", api_key="none", timeout=60, max_retries=0, **options)


HELLO = [{"role": "user", "content": "Say hello in one short sentence."}]


class Chat(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def ask(self, **options):
        return self.client.chat.completions.create(**{"model": MODEL, "messages": HELLO, "max_tokens": 12, "seed": 1, **options})

    def test_answer(self):
        answer = self.ask()
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, MODEL)
        self.assertTrue(answer.id.startswith("chatcmpl-"))
        self.assertTrue(answer.system_fingerprint.startswith("aperto-law"))
        self.assertLess(abs(answer.created - time.time()), 60)
        choice = answer.choices[0]
        self.assertEqual(choice.message.role, "assistant")
        self.assertIsInstance(choice.message.content, str)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        self.assertIsNone(choice.logprobs)
        self.assertEqual(answer.usage.total_tokens, answer.usage.prompt_tokens + answer.usage.completion_tokens)
        self.assertLessEqual(answer.usage.completion_tokens, 12)

    def test_stream_says_the_same(self):
        whole = self.ask()
        chunks = list(self.ask(stream=True, stream_options={"include_usage": True}))
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertTrue(all(chunk.choices[0].delta.role is None for chunk in chunks[1:-1]))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        self.assertEqual(text, whole.choices[0].message.content)
        self.assertEqual(chunks[-2].choices[0].finish_reason, whole.choices[0].finish_reason)
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, whole.usage)

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model=MODEL, messages=HELLO, max_tokens=8, seed=1) as stream:
            kinds = {event.type for event in stream}
            final = stream.current_completion_snapshot
        self.assertIn("content.delta", kinds)
        self.assertEqual(final.choices[0].message.role, "assistant")

    def test_seed_and_n(self):
        first, second = (self.ask(n=3, temperature=1.5) for _ in range(2))
        self.assertEqual([c.message.content for c in first.choices], [c.message.content for c in second.choices])
        self.assertEqual([c.index for c in first.choices], [0, 1, 2])

    def test_drawn_seed_gives_the_answer_again(self):
        raw = self.client.chat.completions.with_raw_response.create(model=MODEL, messages=HELLO, max_tokens=8)
        seed = int(raw.headers["aperto-seed"])
        self.assertLess(seed, 2**53)
        again = self.ask(seed=seed, max_tokens=8)
        self.assertEqual(raw.parse().choices[0].message.content, again.choices[0].message.content)

    def test_logprobs(self):
        answer = self.ask(logprobs=True, top_logprobs=3)
        tokens = answer.choices[0].logprobs.content
        self.assertEqual(len(tokens), answer.usage.completion_tokens)
        for token in tokens:
            self.assertLessEqual(token.logprob, 0)
            self.assertEqual(len(token.top_logprobs), 3)
            values = [top.logprob for top in token.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            bytes(token.bytes)

    def test_stop(self):
        whole = self.ask(temperature=0).choices[0].message.content
        if len(whole) > 2:
            cut = self.ask(temperature=0, stop=[whole[1]])
            self.assertEqual(cut.choices[0].message.content, whole[: whole.index(whole[1])])
            self.assertEqual(cut.choices[0].finish_reason, "stop")

    def test_parts_roles_and_fields_without_effect(self):
        raw = self.client.chat.completions.with_raw_response.create(
            model=MODEL, max_completion_tokens=4, user="someone", store=False, service_tier="auto",
            messages=[{"role": "developer", "content": "Be brief."},
                      {"role": "user", "content": [{"type": "text", "text": "Hello"}, {"type": "text", "text": "there"}]}])
        self.assertEqual({name.strip() for name in raw.headers["aperto-no-effect"].split(",")}, {"user", "store", "service_tier"})

    def test_answer_goes_back_as_it_came(self):
        message = self.ask().choices[0].message
        self.ask(messages=[*HELLO, message, {"role": "user", "content": "Again."}])
        self.ask(messages=[*HELLO, message.model_dump(), {"role": "user", "content": "Again."}])

    def test_extension(self):
        self.ask(extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True})

    def test_leaving_a_stream(self):
        with self.ask(stream=True, max_tokens=2000, extra_body={"ignore_eos": True}) as stream:
            next(iter(stream))
        self.ask(max_tokens=2)


class Errors(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def refused(self, kind, **options):
        with self.assertRaises(kind) as caught:
            self.client.chat.completions.create(**{"model": MODEL, "messages": HELLO, **options})
        return caught.exception

    def test_unknown_model(self):
        error = self.refused(openai.NotFoundError, model="gpt-none")
        self.assertEqual((error.status_code, error.code, error.param), (404, "model_not_found", "model"))

    def test_bad_number(self):
        error = self.refused(openai.BadRequestError, temperature=-1)
        self.assertEqual(error.param, "temperature")
        self.assertEqual(error.type, "invalid_request_error")

    def test_unsupported(self):
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
        self.assertEqual(self.refused(openai.BadRequestError, tools=[tool], tool_choice="required").param, "tool_choice")
        self.assertEqual(self.refused(openai.BadRequestError, response_format={"type": "json_object"}).param, "response_format")

    def test_unknown_field(self):
        self.assertEqual(self.refused(openai.BadRequestError, extra_body={"temprature": 1}).param, "temprature")

    def test_too_long(self):
        for stream in (False, True):
            error = self.refused(openai.BadRequestError, messages=[{"role": "user", "content": "word " * 20000}], stream=stream)
            self.assertEqual(error.code, "context_length_exceeded")


class Others(unittest.TestCase):
    def setUp(self):
        self.client = client()
        self.addCleanup(self.client.close)

    def test_models(self):
        self.assertEqual([model.id for model in self.client.models.list()], [MODEL])
        self.assertEqual(self.client.models.retrieve(MODEL).id, MODEL)
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("none")

    def test_completion(self):
        answer = self.client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, seed=1, logprobs=2)
        choice = answer.choices[0]
        self.assertEqual(answer.object, "text_completion")
        self.assertEqual(len(choice.logprobs.tokens), answer.usage.completion_tokens)
        self.assertEqual(len(choice.logprobs.top_logprobs), len(choice.logprobs.text_offset))
        chunks = self.client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=8, seed=1, stream=True)
        self.assertEqual("".join(chunk.choices[0].text for chunk in chunks), choice.text)

    def test_prompts(self):
        answer = self.client.completions.create(model=MODEL, prompt=["a", "b"], max_tokens=2, n=2)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        self.client.completions.create(model=MODEL, prompt=[[5, 6], [7]], max_tokens=2)


class Asynchronous(unittest.IsolatedAsyncioTestCase):
    async def test_many_at_once(self):
        import asyncio
        async with openai.AsyncOpenAI(base_url=BASE + "/v1", api_key="none", timeout=60, max_retries=0) as client:
            async def one(number):
                answer = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": f"Number {number % 4}"}], max_tokens=6, seed=number % 4)
                return number % 4, answer.choices[0].message.content
            answers = await asyncio.gather(*(one(number) for number in range(16)))
        self.assertEqual(len(set(answers)), len({number for number, _ in answers}))


def wait_ready():
    import urllib.error
    import urllib.request
    for _ in range(600):
        try:
            return urllib.request.urlopen(BASE + "/readyz").status
        except urllib.error.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server did not become ready")


def main(module):
    """Serves with the program of the command line and runs the module's tests."""
    global BASE, MODEL
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    server = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
    try:
        BASE = "http://127.0.0.1:" + server.stdout.readline().split()[-1].split(":")[-1]
        wait_ready()
        MODEL = client().models.list().data[0].id
        unittest.main(module, argv=sys.argv[:1], verbosity=2)
    finally:
        server.terminate()
        server.wait(20)


if __name__ == "__main__":
    main("__main__")
