#!/usr/bin/env python3
"""Tools and reasoning with the official openai package, unmodified, against the server.

    test_tools.py PROGRAM [ARGUMENT...]     a program that serves what make_telling wrote and whose first line ends in the port

The model calls "weather" after a '?', "weather" and "time" after a '!', and after a tool's result it says what the
last letter of the result means: the whole round depends on what the server showed the model.
SPDX-License-Identifier: Apache-2.0
"""
import json
import unittest

import openai

import test_openai

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters": PLACE}},
         {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}]


def weather(city):
    return {"Turin": "21 C", "Rome": "-3 F"}[city]


class Tools(unittest.TestCase):
    def setUp(self):
        self.client = test_openai.client()
        self.addCleanup(self.client.close)

    def ask(self, messages, **options):
        return self.client.chat.completions.create(**{"model": test_openai.MODEL, "messages": messages, "tools": TOOLS, **options})

    def test_round_trip(self):
        messages = [{"role": "user", "content": "What is the weather in Turin?"}]
        choice = self.ask(messages).choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertIsNone(choice.message.content)
        self.assertEqual(choice.message.reasoning_content, "The user wants the weather.")
        call, = choice.message.tool_calls
        self.assertEqual((call.type, call.function.name), ("function", "weather"))
        self.assertRegex(call.id, "^[0-9A-Za-z]{9}$")
        result = weather(**json.loads(call.function.arguments))
        for message in (choice.message, choice.message.model_dump()):  # both ways clients send it back
            messages[1:] = [message, {"role": "tool", "tool_call_id": call.id, "content": result}]
            last = self.ask(messages).choices[0]
            self.assertEqual((last.finish_reason, last.message.content), ("stop", "It is warm in Turin."))
            self.assertIsNone(last.message.tool_calls)
        messages[2]["content"] = "14 F"
        self.assertEqual(self.ask(messages).choices[0].message.content, "It is cold in Turin.")

    def test_stream_says_the_same(self):
        for question in ("And in Turin?", "Both!"):
            messages = [{"role": "user", "content": question}]
            whole = self.ask(messages).choices[0]
            content, reasoning, calls, reason = "", "", {}, None
            for chunk in self.ask(messages, stream=True):
                delta = chunk.choices[0].delta
                content += delta.content or ""
                reasoning += getattr(delta, "reasoning_content", None) or ""
                for piece in delta.tool_calls or []:
                    if piece.id:
                        calls[piece.index] = [piece.function.name, ""]
                    calls[piece.index][1] += piece.function.arguments or ""
                reason = chunk.choices[0].finish_reason or reason
            self.assertEqual(reason, "tool_calls")
            self.assertEqual(content, whole.message.content or "")
            self.assertEqual(reasoning, getattr(whole.message, "reasoning_content", None) or "")
            self.assertEqual([calls[i] for i in sorted(calls)],
                             [[call.function.name, call.function.arguments] for call in whole.message.tool_calls])

    def test_stream_helper(self):
        with self.client.chat.completions.stream(model=test_openai.MODEL, messages=[{"role": "user", "content": "Both!"}],
                                                 tools=TOOLS) as stream:
            done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
            final = stream.get_final_completion().choices[0].message
        self.assertEqual([(event.name, event.arguments) for event in done], [("weather", '{"city": "Rome"}'), ("time", "{}")])
        self.assertEqual(final.content, "Both then.")
        self.assertEqual(len({call.id for call in final.tool_calls}), 2)

    def test_one_call_at_most(self):
        message = self.ask([{"role": "user", "content": "Both!"}], parallel_tool_calls=False).choices[0].message
        self.assertEqual([call.function.name for call in message.tool_calls], ["weather"])

    def test_choice(self):
        for tools in ({"tool_choice": "none"}, {"tools": openai.omit}):
            choice = self.ask([{"role": "user", "content": "Both!"}], **tools).choices[0]
            self.assertEqual(choice.finish_reason, "stop")
            self.assertIsNone(choice.message.tool_calls)
            self.assertIn("<tool_call>", choice.message.content)
        for forced in ("required", {"type": "function", "function": {"name": "weather"}}):
            with self.assertRaises(openai.BadRequestError) as caught:
                self.ask([{"role": "user", "content": "Both!"}], tool_choice=forced)
            self.assertEqual(caught.exception.param, "tool_choice")

    def test_variables_of_the_template(self):
        count = lambda **options: self.ask([{"role": "user", "content": "Turin?"}], **options).usage.prompt_tokens
        self.assertGreater(count(reasoning_effort="high"), count())
        with self.assertRaises(openai.BadRequestError) as caught:
            count(extra_body={"chat_template_kwargs": {"bos_token": "x"}})
        self.assertEqual(caught.exception.param, "chat_template_kwargs")
        self.assertIn("bos_token", caught.exception.message)


if __name__ == "__main__":
    test_openai.main("__main__")
