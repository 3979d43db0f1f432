#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes what Python's Jinja2 renders, for tests/text/test_jinja_golden.c.

    python3 make_template_goldens.py OUT.json [FOLDER_WITH_CHAT_TEMPLATES]

Without the folder only the small language cases below are written; with it, also whole chat templates (those in
TEMPLATES, whose licences permit it; tests/text/data/README.md names them) over typical conversations.
Needs the package jinja2 (made with 3.1.6).  The environment is the one Hugging Face's apply_chat_template builds.
"""
import datetime
import json
import os
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

NOW = datetime.datetime(2025, 7, 10, 12, 0, 0)


class Generation(Extension):
    """{% generation %}: renders its body, in a scope of its own."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def make_environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment


ENVIRONMENT = make_environment()

# Templates that stress one rule each.  The context is V unless a pair gives another.
V = {"s": "Hello World", "e": "", "u": "Straße – naïve 你好 😀", "n": 7, "f": 2.5, "z": 0, "t": True, "no": False, "nil": None,
     "l": [3, 1, 2], "words": ["b", "A", "c"], "d": {"b": 1, "a": [1, "x", None], "C": {"k": 2.0}}, "ws": " \t a b \n ",
     "users": [{"name": "Zoe", "age": 30, "tags": ["x"]}, {"name": "adam", "age": 25, "tags": []}, {"name": "Bob", "age": 30}],
     "html": "<a href=\"x\">'&</a>", "lines": "one\n\ntwo\r\nthree", "items": {"items": 1, "get": 2}}

CASES = r"""
{{ 1 + 2 * 3 - 4 // 3 ** 2 }}|{{ -7 // 2 }}|{{ -7 % 3 }}|{{ 7 % -3 }}|{{ 7.5 % 2 }}|{{ -7.5 // 2 }}|{{ 2 ** 10 }}|{{ 2 ** -1 }}|{{ 7 / 2 }}|{{ 6 / 2 }}
{{ 1e3 }}|{{ 1.5e-7 }}|{{ 1e16 }}|{{ 123456789012345.6 }}|{{ 0.1 + 0.2 }}|{{ 1e22 }}|{{ 100000000000000000.0 }}|{{ 5e-324 }}|{{ 1.0 }}|{{ -0.0 }}
{{ 0x1F }}|{{ 0b101 }}|{{ 0o17 }}|{{ 1_000 }}|{{ 1_0.5 }}
{{ True + 1 }}|{{ true == 1 }}|{{ 1 == 1.0 }}|{{ '1' == 1 }}|{{ none == false }}|{{ [1, 2] == (1, 2) }}|{{ {'a': 1} == {'a': 1.0} }}
{{ 1 < 2 < 3 }}|{{ 1 < 3 < 2 }}|{{ 'a' < 'b' }}|{{ [1, 2] < [1, 3] }}|{{ 'A' < 'a' }}|{{ 1 <= 1 >= 0 }}|{{ 'ä' > 'z' }}
{{ 'a' in 'abc' }}|{{ 1 in [1.0] }}|{{ 'b' in d }}|{{ 'q' not in d }}|{{ none in [none] }}|{{ 'x' in undefinedthing }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] }}
{{ 'ab' * 3 }}|{{ 2 * [1, 2] }}|{{ 'x' * 0 }}|{{ 'x' * -1 }}|{{ (1,) * 2 }}
{{ [1] + [2] }}|{{ (1, 2) + (3,) }}|{{ 'a' 'b' 'c' }}
{{ () }}|{{ (1,) }}|{{ (1, 2) }}|{{ [] }}|{{ {} }}|{{ {'a': (1, [2]), 3: none, none: true} }}
{{ 'it\'s' }}|{{ ["it's", 'q"q', 'b\'o"th', 'n\nl', 't\tb', '\\', 'é', '\x07', '\u200b', '\U0001F600'] }}
{{ '\u00e9\x41\101\n|\q\\' }}
{{ s[0] }}|{{ s[-1] }}|{{ s[99] is defined }}|{{ s[1:4] }}|{{ s[::-1] }}|{{ s[-3:] }}|{{ s[:-3] }}|{{ s[10:2] }}|{{ s[::2] }}|{{ s[5:0:-2] }}
{{ u[3:5] }}|{{ u[-1] }}|{{ u|length }}|{{ u[::-1] }}|{{ u|upper }}|{{ u|lower }}|{{ u|title }}|{{ u|capitalize }}|{{ u.swapcase() }}
{{ l[0] }}|{{ l[-1] }}|{{ l[1:] }}|{{ l[::-1] }}|{{ l[-9:9] }}|{{ l[9] is undefined }}|{{ (1, 2, 3)[:2] }}|{{ range(9)[2:5]|list }}
{{ d.b }}|{{ d['a'][1] }}|{{ d.C.k }}|{{ d.nope is defined }}|{{ d['nope']|default('x') }}|{{ d.get('b') }}|{{ d.get('q') }}|{{ d.get('q', 5) }}
{{ items.items is callable }}|{{ items['items'] }}|{{ items.get is callable }}|{{ items['get'] }}|{{ items|items|list }}
{{ d.keys()|list }}|{{ d.values()|list }}|{{ d.items()|list }}|{{ d|list }}|{{ d|length }}|{{ d.keys() }}|{{ d.items()|length }}|{{ d.values() }}
{{ 'yes' if t else 'no' }}|{{ 'yes' if no }}|{{ ('x' if no) is undefined }}|{{ 'a' if z else 'b' if n else 'c' }}
{{ t and s }}|{{ no or 'x' }}|{{ e or none }}|{{ not l }}|{{ not [] and 'q' }}|{{ z and 1 }}|{{ '' or 0 or [] }}
{{ undefinedthing }}|{{ undefinedthing is defined }}|{{ undefinedthing|default('d') }}|{{ nil|default('d') }}|{{ nil|default('d', true) }}|{{ e|d('x', boolean=True) }}|{{ undefinedthing|length }}|{{ undefinedthing == nope }}
{{ undefinedthing.x }}
{{ undefinedthing['x'] }}
{{ undefinedthing() }}
{{ undefinedthing + 1 }}
{{ nil.x is defined }}|{{ nil['x'] is defined }}|{{ n.x is defined }}
{{ nil.x.y }}
{{ d.nope.x }}
{{ s.nope() }}
{{ -undefinedthing }}
{{ undefinedthing < 1 }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ [1] + 'a' }}
{{ nil + 1 }}
{{ 'a' < 1 }}
{{ nil < 1 }}
{{ 1 // 0 }}
{{ 1 % 0 }}
{{ l.foo.bar }}
{{ 1 in 5 }}
{{ 1 in 'abc' }}
{{ nil|length }}
{{ n|list }}
{{ {[1]: 2} }}
{{ l|first }}|{{ l|last }}|{{ []|first is undefined }}|{{ s|first }}|{{ s|last }}|{{ d|first }}|{{ ''|last is undefined }}
{{ l|sort }}|{{ l|sort(reverse=true) }}|{{ words|sort }}|{{ words|sort(case_sensitive=true) }}|{{ users|sort(attribute='age')|map(attribute='name')|join(',') }}|{{ users|sort(attribute='age,name')|map(attribute='name')|join(',') }}|{{ users|sort(reverse=true, attribute='age')|map(attribute='name')|join(',') }}
{{ [1, 'a']|sort }}
{{ l|sum }}|{{ users|sum(attribute='age') }}|{{ [0.1, 0.2]|sum }}|{{ []|sum }}|{{ l|sum(start=10) }}
{{ l|min }}|{{ l|max }}|{{ words|min }}|{{ words|max }}|{{ []|max is undefined }}|{{ users|max(attribute='age') }}
{{ l|join }}|{{ l|join(', ') }}|{{ users|join('-', attribute='name') }}|{{ s|join('.') }}|{{ [1, none, 'x', 2.5, [1]]|join('/') }}|{{ d|join('+') }}
{{ l|reverse|list }}|{{ s|reverse }}|{{ l|list }}|{{ s|list }}|{{ l|reverse|first }}
{{ [1, 2, 1, 'a', 'A', 2.0]|unique|list }}|{{ words|map('upper')|list }}|{{ users|map(attribute='tags')|list }}|{{ users|map(attribute='tags', default='none')|list }}|{{ users|map(attribute='nope')|map('default', 'q')|list }}
{{ l|select('odd')|list }}|{{ l|reject('odd')|list }}|{{ [0, 1, '', 'x', none]|select|list }}|{{ [0, 1, '', 'x', none]|reject|list }}|{{ l|select('gt', 1)|list }}|{{ l|select('in', [1, 2])|list }}
{{ users|selectattr('tags')|map(attribute='name')|list }}
{{ users|selectattr('age', 'equalto', 30)|map(attribute='name')|list }}|{{ users|rejectattr('age', 'eq', 30)|map(attribute='name')|list }}
{{ d|dictsort }}|{{ d|dictsort(case_sensitive=true) }}|{{ {'a': 2, 'b': 1}|dictsort(by='value') }}|{{ {'a': 2, 'b': 1}|dictsort(false, 'key', true) }}
{{ range(7)|batch(3)|list }}|{{ range(7)|batch(3, 'x')|list }}|{{ range(7)|slice(3)|list }}|{{ range(7)|slice(3, 'x')|list }}
{% for k, g in users|groupby('age') %}{{ k }}:{{ g|map(attribute='name')|join(',') }};{% endfor %}
{{ range(5) }}|{{ range(1, 5)|list }}|{{ range(5, 0, -2)|list }}|{{ range(0) }}|{{ range(1, 9, 3) }}|{{ range(3)|length }}|{{ range(4)[-1] }}|{{ 2 in range(3) }}
{{ range(1000000000) }}
{{ range(0, 5, 0) }}
{{ s|replace('o', '0') }}|{{ s|replace('o', '0', 1) }}|{{ s.replace('', '-') }}|{{ s.replace('l', '') }}|{{ n|replace(7, 8) }}
{{ ws|trim }}|{{ ws.strip() }}|{{ ws.lstrip() }}|{{ ws.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'|trim('xy') }}|{{ 'abc'.lstrip('ab') }}|{{ '\u3000a\u2003'|trim }}|{{ 'éaé'.strip('é') }}
{{ 'a,b,,c'.split(',') }}|{{ 'a,b,,c'.split(',', 1) }}|{{ ' a  b '.split() }}|{{ ' a  b c'.split(none, 1) }}|{{ 'a,b,c'.rsplit(',', 1) }}|{{ ' a b  c '.rsplit(none, 1) }}|{{ ''.split() }}|{{ ''.split(',') }}|{{ 'abcabc'.split('bc') }}
{{ 'a-b-c'.partition('-') }}|{{ 'a-b-c'.rpartition('-') }}|{{ 'abc'.partition('-') }}|{{ 'abc'.rpartition('-') }}
{{ 'abc'.startswith('ab') }}|{{ 'abc'.endswith(('x', 'c')) }}|{{ 'abc'.startswith('b', 1) }}|{{ 'abc'.endswith('') }}|{{ 'abc'.startswith(()) }}
{{ 'banana'.find('an') }}|{{ 'banana'.rfind('an') }}|{{ 'banana'.find('x') }}|{{ 'banana'.count('an') }}|{{ 'banana'.index('n') }}|{{ 'äö'.find('ö') }}|{{ 'abc'.count('') }}|{{ 'banana'.find('a', 2) }}
{{ 'banana'.index('x') }}
{{ 'a'.join(['1', '2']) }}|{{ ''.join([]) }}|{{ 'ab'.center(7, '*') }}|{{ 'ab'.center(6) }}.|{{ 'abc'.center(6) }}.|{{ 'ab'.ljust(4) }}|{{ 'ab'.rjust(4, '0') }}|{{ '-42'.zfill(6) }}|{{ 'ab'|center(7) }}.
{{ 'a'.join([1]) }}
{{ 'abc'.isalpha() }}|{{ '12'.isdigit() }}|{{ 'a1'.isalnum() }}|{{ ''.isalpha() }}|{{ ' \t'.isspace() }}|{{ 'Ab'.isupper() }}|{{ 'AB1'.isupper() }}|{{ '1'.islower() }}|{{ 'abc'.removeprefix('a') }}|{{ 'abc'.removesuffix('bc') }}
{{ "they're bill's friends".title() }}|{{ "they're bill's friends"|title }}|{{ 'a-b c(d'|title }}|{{ 'HELLO wORLD'.capitalize() }}
{{ lines.splitlines() }}|{{ lines.splitlines(true) }}|{{ 'a\n'.splitlines() }}
{{ '{} {}'.format(1, 'x') }}|{{ '{1}{0}'.format('a', 'b') }}|{{ '{a}-{b[k]}-{c.x}'.format(a=1, b={'k': 2}, c={'x': 3}) }}|{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:.2f}|{:,}|{:+d}|{:x}|{:%}'.format('a', 'b', 'c', 42, 3.14159, 1234567, 5, 255, 0.5) }}|{{ '{{}}'.format() }}|{{ '{!r}'.format('a') }}|{{ '{:*^9}'.format('mid') }}
{{ '%s and %d %05.1f %x %%' % ('a', 3, 2.25, 255) }}|{{ '%s' % 'one' }}|{{ '%(a)s' % {'a': 1} }}|{{ '%5s|%-5s|' % ('a', 'b') }}|{{ '%r' % 'q' }}|{{ "%s"|format('x') }}
{{ '%d' % 'x' }}
{{ '%s %s' % 'x' }}
{{ '{}'.format() }}
{{ lines|indent }}|{{ lines|indent(2, true) }}|{{ lines|indent(2, blank=true) }}|{{ 'a\nb'|indent('> ') }}|{{ ''|indent(first=true) }}.
{{ 'a b c d e f'|truncate(7) }}|{{ 'abcdefghij'|truncate(5, true) }}|{{ 'abcdefghij'|truncate(6, true, '', 0) }}|{{ s|truncate(5, leeway=0) }}
{{ 'a b-c d_e'|wordcount }}|{{ 'a/b c?é'|urlencode }}|{{ html|e }}|{{ html|escape|e }}|{{ html|e|forceescape }}|{{ 'x'|safe is escaped }}|{{ '<'|safe + '<' }}|{{ html|string is escaped }}
{{ '42'|int }}|{{ '4.7'|int }}|{{ 'x'|int }}|{{ 'x'|int(5) }}|{{ '0x1F'|int(base=16) }}|{{ 4.9|int }}|{{ -4.9|int }}|{{ ' 7 '|int }}|{{ nil|int }}|{{ true|int }}|{{ '1_0'|int }}|{{ '4.7'|float }}|{{ 'x'|float }}|{{ 'x'|float(1.5) }}|{{ 3|float }}|{{ '1e3'|float }}
{{ 2.5|round }}|{{ 3.5|round }}|{{ 2.675|round(2) }}|{{ 42|round }}|{{ 2.4|round(0, 'ceil') }}|{{ 2.6|round(method='floor') }}|{{ 1234|round(-2) }}|{{ 1.25|round(1) }}|{{ 0.5|round|int }}
{{ -3|abs }}|{{ 3.5|abs }}|{{ (-3)|abs }}|{{ n|string + '!' }}|{{ l|string }}|{{ d|string }}
{{ d|tojson }}|{{ d|tojson(indent=2) }}|{{ d|tojson(sort_keys=true) }}|{{ u|tojson }}|{{ u|tojson(ensure_ascii=true) }}|{{ html|tojson }}|{{ []|tojson(indent=2) }}|{{ (1, 2)|tojson }}|{{ 1e20|tojson }}|{{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }}|{{ l|tojson(separators=(',', ':')) }}|{{ '\x7f\x1f\t\u2028'|tojson }}
{{ undefinedthing|tojson }}
{{ range(3)|tojson }}
{{ d.items()|tojson }}
{{ 5 is odd }}|{{ 4 is even }}|{{ 9 is divisibleby 3 }}|{{ n is number }}|{{ t is number }}|{{ t is integer }}|{{ 1.0 is float }}|{{ s is string }}|{{ l is sequence }}|{{ d is mapping }}|{{ d is iterable }}|{{ s is sequence }}|{{ n is iterable }}|{{ nil is none }}|{{ t is true }}|{{ 1 is true }}|{{ d is sequence }}|{{ l is mapping }}
{{ 3 is in [1, 3] }}|{{ 3 is not in [1] }}|{{ 3 is eq 3 }}
{{ 3 is == 3 }}
{{ [3]|select('==', 3)|list }}{{ users|selectattr('tags', 'defined')|list|length }}
{{ users|rejectattr('tags.0', 'undefined')|list|length }}
{{ 'a'|map('upper')|list }}{{ nil|map('upper')|list }}{{ 0|select|list }}
{{ 3 is sameas 3 }}|{{ 'a' is lower }}|{{ 'A' is upper }}|{{ 3 is ge 3 }}|{{ 3 is lt(4) }}|{{ 'upper' is filter }}|{{ 'nope' is filter }}|{{ 'odd' is test }}|{{ range is callable }}|{{ s.upper is callable }}|{{ 3 is not none and 4 is even }}
{{ 'x' if n is defined and n is not none else 'y' }}|{{ n is not string }}|{{ not n is string }}
{{ 3 is nosuchtest }}
{{ 3|nosuchfilter }}
{{ l|select('nosuch')|list }}
{% if false %}{{ 3|nosuchfilter }}{% endif %}ok
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.cycle('a', 'b') }}{{ loop.previtem }}{{ loop.nextitem }};{% endfor %}
{% for x in [1, 1, 2, 2, 1] %}{{ loop.changed(x) }},{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ loop.last }} {% else %}none{% endfor %}
{% for x in l if x > 9 %}{{ x }}{% else %}none{% endfor %}
{% for x in [] %}{% else %}e{% endfor %}|{% for x in undefinedthing %}a{% else %}b{% endfor %}|{% for c in 'äb' %}[{{ c }}]{% endfor %}|{% for k in d %}{{ k }}{% endfor %}|{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}|{% for a, b in [(1, 2), [3, 4], 'xy'] %}{{ a }}{{ b }}{% endfor %}|{% for (a, (b, c)) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for x in nil %}{% endfor %}
{% for x in 5 %}{% endfor %}
{% for a, b in [(1,)] %}{% endfor %}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in range(3) %}{% for y in range(3) %}{% if y > x %}{% break %}{% endif %}{{ x }}{{ y }} {% endfor %}{{ loop.index }};{% endfor %}
{% for n in [{'v': 1, 'c': [{'v': 2, 'c': [{'v': 3}]}]}] recursive %}{{ n.v }}@{{ loop.depth }}({% if n.c %}{{ loop(n.c) }}{% endif %}){% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}
{% set x = 1 %}{% if t %}{% set x = 2 %}{% endif %}{{ x }}
{% set ns = namespace(a=1, l=[]) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.a }}{{ ns.l }}{{ ns.zz is defined }}{{ ns['a'] }}
{% set ns = namespace({'q': 1}, r=2) %}{{ ns.q }}{{ ns.r }}
{% set ns = namespace(x=1) %}{{ ns }}
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}
{% set d.x = 1 %}
{% set x %}a {{ n }} b{% endset %}[{{ x }}]{% set y | upper | replace('A', 'z') %}a b{% endset %}[{{ y }}]
{% set seen = namespace(l=[]) %}{% for x in [1, 1, 2] if x not in seen.l %}{% set seen.l = seen.l + [x] %}{{ x }}{% endfor %}
{% macro m(a, b=2, c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}|{{ m(1, 3) }}|{{ m(1, c=9) }}|{{ m(1, 2, 3, 4, x=5) }}|{{ m() }}
{% macro m(a, b='q') %}{{ a }}{{ b }}{% endmacro %}{{ m(1, 2, 3) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, zz=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m() %}[{{ x }}]{% endmacro %}{% set x = 1 %}{{ m() }}{% set x = 2 %}{{ m() }}{% for x in [5] %}{{ m() }}{% endfor %}
{% macro fact(n) %}{% if n <= 1 %}1{% else %}{{ n * fact(n - 1)|int }}{% endif %}{% endmacro %}{{ fact(10) }}
{% macro m(n) %}{{ n }}{{ caller('x', n) }}{{ n }}{% endmacro %}{% call(a, b) m(3) %}<{{ a }}{{ b }}{{ s }}>{% endcall %}
{% macro m() %}{{ caller() if caller else 'none' }}{% endmacro %}{{ m() }}{% call m() %}yes{% endcall %}
{% macro m(a, b) %}{{ a }}-{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}{{ m(1, **{'b': 5}) }}
{% macro a() %}{% set q = 5 %}{{ q }}{% endmacro %}{{ a() }}{{ q }}
{% macro m(x) %}{{ x }}{% endmacro %}{{ m }}|{{ m is callable }}|{{ [m('<a>')] }}|{{ m('a') + 'b' }}|{{ m('  a ')|trim }}|{{ m(1) == '1' }}
{% with a = 1, b = n %}{{ a }}{{ b }}{% set a = 5 %}{{ a }}{% endwith %}{{ a is defined }}
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
{% filter upper %}abc{{ s }}{% endfilter %}|{% filter replace('a', 'b')|upper %}aa{% endfilter %}
{% raw %}{{ x }} {% if %} {# c #}{% endraw %}|{%- raw -%}  a {{ b }}  {%- endraw -%}  |
{% generation %}a{% set q = 1 %}{{ q }}{% endgeneration %}{{ q is defined }}
{% print n %}|{% print 1, 2 %}|{{ 1, 2 }}
{{ dict(a=1, b=2) }}|{{ dict([('x', 1)]) }}|{{ dict({'q': 1}, r=2) }}|{{ {}.items()|list }}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{% set j = joiner('|') %}{{ j() }}{{ j() }}{{ j() }}
{{ strftime_now('%Y-%m-%d') }}|{{ strftime_now('%d %b %Y') }}|{{ strftime_now('%B %d, %Y %H:%M:%S %A %j') }}
{{ raise_exception('boom: ' ~ n) }}
{{ ''.__class__ }}|{{ ''.__class__ is defined }}|{{ l.append is defined }}
{{ ''.__class__.__mro__ }}
{{ l.append(1) }}
{{ d.update({'a': 1}) }}
{{ d.pop('a') }}
{{ l['append'](1) }}
{{ (l|attr('append'))(1) }}
{{ range.__globals__ }}
{{ s.format.__self__.x }}
{{ d|attr('b') }}|{{ s|attr('upper') is callable }}
{{ users[0].name.upper()[::-1]|lower }}|{{ (l|sort)[0] }}|{{ d.a[1:]|join }}|{{ 'a'.upper().lower() }}
{{ -1|abs }}|{{ -n|abs }}|{{ 2 + 3|string|length }}|{{ not t|string }}|{{ 1 if n > 3 else 2 }}
{{ matrix.0.1 }}{{ [[1, 2], [3, 4]].1.0 }}
  {% if t %}
    a
  {% endif %}
b
x{% if t %}y{% endif %}
z
a
  {{- n -}}
b
  {#- c -#}  d {# e #}
f
{%+ if t %}a{% endif +%}
b
   {%+ if t %}a
{%- endif %}  b
{% if t -%}   a   {%- endif %}
  {% set x = 1 %}  {% set y = 2 %}
{{ x }}{{ y }}
{# comment
over lines #}
after
{{ "{{ not }} {% a %} {# tag #}" }}
{{ {'a': {'b': 1}} }}|{{ {'a': {'b': {'c': 1}}}.a.b.c}}
{% if s == "Hello World" and (n > 3 or z) and not (e or no) %}1{% elif 1 %}2{% else %}3{% endif %}
{% if z %}1{% elif e %}2{% elif l %}3{% else %}4{% endif %}
{{
  n
  +
  1
}}
{% set multi = [
  'a',
  'b',
] %}
{{ multi }}
{{ [1, 2,] }}{{ (1, 2,) }}{{ {'a': 1,} }}{{ dict(a=1,) }}
{% if %}{% endif %}
{% for %}{% endfor %}
{% endfor %}
{% if 1 %}
{{ 1 + }}
{{ ( 1 }}
{{ 1 ) }}
{{ 'abc }}
{% raw %} no end
{# no end
{{ a b }}
{% nosuchtag %}
{% break %}
{{ [1, 2 }}
{{ {'a' 1} }}
{{ x = 1 }}
{% set 1 = 2 %}
{% set true = 2 %}
{% macro m(a=1, b) %}{% endmacro %}
{% for x in l %}
""".strip("\n")


def split_cases():
    """One case a line; a few take several lines and end before the next line that begins a known start."""
    lines, cases, i = CASES.split("\n"), [], 0
    spans = {"  {% if t %}": 4, "x{% if t %}y{% endif %}": 2, "a": 5, "{%+ if t %}a{% endif +%}": 2, "   {%+ if t %}a": 2,
             "  {% set x = 1 %}  {% set y = 2 %}": 2, "{# comment": 3, "{{": 5, "{% set multi = [": 5}
    while i < len(lines):
        n = spans.get(lines[i], 1)
        cases.append("\n".join(lines[i:i + n]) + ("\n" if n > 1 else ""))
        i += n
    return cases


TEMPLATES = ["llama_cpp/HuggingFaceTB-SmolLM3-3B.jinja", "llama_cpp/Qwen-Qwen2.5-7B-Instruct.jinja", "llama_cpp/Qwen-QwQ-32B.jinja",
             "llama_cpp/Qwen3-Coder.jinja", "llama_cpp/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
             "llama_cpp/deepseek-ai-DeepSeek-V3.1.jinja", "llama_cpp/openai-gpt-oss-120b.jinja",
             "llama_cpp/ibm-granite-granite-4.0.jinja", "llama_cpp/mistralai-Mistral-Nemo-Instruct-2407.jinja",
             "llama_cpp/GLM-4.7-Flash.jinja", "mistral_common/v7.jinja", "axolotl/phi_4.jinja"]


def conversations():
    def call(name, identity, arguments):
        return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}
    weather = {"type": "function", "function": {"name": "get_weather", "description": "The <b>weather</b> & \"more\" für a city",
               "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Like Zürich"},
                              "unit": {"type": "string", "enum": ["C", "F"]}, "days": {"type": "integer"}}, "required": ["city"]}}}
    system = {"role": "system", "content": "You are  kind.\n"}
    user = {"role": "user", "content": "Hello <|im_end|> 你好 \n x"}
    answer = {"role": "assistant", "content": "  Fine.\n"}
    thought = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes", "reasoning_content": "hm"}
    called = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", "abcdefgh1", {"city": "Zürich", "days": 2})]}
    both = {"role": "assistant", "content": None, "tool_calls": [call("get_weather", "abcdefgh1", {"city": "A"}),
                                                                 call("get_weather", "abcdefgh2", {"city": "B", "days": 1.5})]}
    result = {"role": "tool", "tool_call_id": "abcdefgh1", "name": "get_weather", "content": "{\"t\": 20, \"s\": \"☀\"}"}
    result2 = {"role": "tool", "tool_call_id": "abcdefgh2", "name": "get_weather", "content": "cold"}
    parts = {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
    base = {"tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
    return {
        "user": dict(base, messages=[user]),
        "turns": dict(base, messages=[system, user, answer, user]),
        "thought": dict(base, messages=[system, user, thought, user], enable_thinking=False),
        "done": dict(base, messages=[user, thought], add_generation_prompt=False),
        "tools": dict(base, messages=[system, user], tools=[weather]),
        "called": dict(base, messages=[user, called, result], tools=[weather]),
        "both": dict(base, messages=[system, user, both, result, result2, answer, user], tools=[weather]),
        "parts": dict(base, messages=[parts]),
        "null": dict(base, messages=[{"role": "user", "content": None}]),
        "alien": dict(base, messages=[{"role": "alien", "content": "x"}]),
    }


def render(source, context):
    """The text; or null and the error."""
    try:
        return {"expected": ENVIRONMENT.from_string(source).render(**context)}
    except TemplateError as error:
        return {"expected": None, "error": str(error)}
    except (TypeError, ValueError, ZeroDivisionError, OverflowError, LookupError, AttributeError, SyntaxError) as error:
        return {"expected": None, "error": type(error).__name__}


def disagreements(folder):
    """Where recorded outputs of other engines differ from Jinja2's: file#index and what Jinja2 gives."""
    fields = {"jinja_engine_cases.json": ("template", "vars", "expected"), "hf_jinja_engine_cases.json": ("template", "context", "expected"),
              "hf_jinja_e2e_cases.json": ("chat_template", "data", "target")}
    found = []
    for name, (source, context, expected) in fields.items():
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            for index, case in enumerate(json.load(file)):
                result = render(case[source], case[context])["expected"]
                if result != case[expected]:
                    found.append({"case": f"{name}#{index}", "jinja2": result})
    with open(os.path.join(folder, "llama_cpp_chat_cases.json"), encoding="utf-8") as file:
        for index, case in enumerate(json.load(file)):
            keys = ("messages", "bos_token", "eos_token", "add_generation_prompt")
            result = render(case["template"], {key: case[key] for key in keys})["expected"]
            if result != case["expected_jinja"]:
                found.append({"case": f"llama_cpp_chat_cases.json#{index}", "jinja2": result})
    return found


def main():
    out = {"made_with": "jinja2 " + jinja2.__version__, "values": V, "cases": [], "templates": {}, "contexts": {}, "renders": []}
    for source in split_cases():
        out["cases"].append({"source": source, **render(source, V)})
    if len(sys.argv) > 2:
        out["contexts"] = conversations()
        for name in TEMPLATES:
            with open(os.path.join(sys.argv[2], name), encoding="utf-8", newline="") as file:
                source = out["templates"][name] = file.read()
            for context_name, context in out["contexts"].items():
                out["renders"].append({"template": name, "context": context_name, **render(source, context)})
        out["disagreements"] = disagreements(os.path.join(sys.argv[2], "expected"))
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        json.dump(out, file, ensure_ascii=False, indent=0, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
