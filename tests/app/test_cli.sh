#!/bin/sh
# test_cli.sh APERTO MAKE_TINY ASK IMPORT_TOOL MAKE_TELLING - the program as people meet it: answers, exit codes, one-line errors.
# SPDX-License-Identifier: Apache-2.0
set -u
whole() { (cd "$(dirname "$1")" && printf '%s/%s' "$(pwd)" "$(basename "$1")"); } # paths may be given from here
aperto=$(whole "$1") make_tiny=$(whole "$2") ask=$(whole "$3") import_tool=$(whole "$4") make_telling=$(whole "$5")
source=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export APERTO_DATA="$work/data" NO_COLOR=1
cd "$work" || exit 1
passed=0 failed=0

ok() { passed=$((passed + 1)); }
bad() {
    failed=$((failed + 1))
    printf 'FAILED %s\n' "$*"
    sed 's/^/    /' err out 2>/dev/null | head -5
}
# expect CODE WORD ARGUMENT…: exit code, and for an error one line on standard error with WORD in it.
expect() {
    code=$1 word=$2
    shift 2
    timeout 60 "$aperto" "$@" >out 2>err </dev/null
    got=$?
    [ "$got" = "$code" ] || { bad "aperto $*: exit $got, not $code"; return; }
    if [ "$code" != 0 ]; then
        [ "$(wc -l <err)" = 1 ] && grep -q '^aperto: error: ' err && grep -qF -- "$word" err || { bad "aperto $*: no line with '$word'"; return; }
    else
        [ -z "$word" ] || grep -qF -- "$word" out || { bad "aperto $*: no '$word' on standard output"; return; }
    fi
    ok
}
json() { python3 -c 'import json,sys; d=json.load(open("out")); sys.exit(not eval(sys.argv[1]))' "$1" && ok || bad "JSON: $1"; }

"$make_tiny" tiny.gguf && "$make_tiny" other.gguf 64 || exit 1
mkfifo pipe

# Words
expect 2 "did you mean 'run'" runn
expect 2 "did you mean '--temp'" run x y --tmp 1
expect 2 "did you mean '--temp'" run x y --temperature 1
expect 2 "did you mean '--system'" run x y --sys hi
expect 2 "did you mean 'run'" rnu
expect 2 "did you mean 'list'" ls
expect 2 "has no option '-x'" run x y -x
expect 2 "option --temp is given twice" run x y --temp 1 --temp 1
expect 2 "option --raw is given twice" run x y --raw --raw
expect 2 "option -n is '3x'" run x y -n3x
expect 2 "option -n is '3x'" run x y -n=3x
expect 2 "option -n is ''" run x y -n=
expect 0 "started" worker --help
expect 2 "takes no value" run x y --json=1
expect 2 "needs a value" run x y --temp
expect 2 "does not expect 'z'" run x y z
expect 2 "needs MODEL" run
expect 0 "Usage: aperto run" run --help
expect 0 "aperto" --help
expect 0 ".TH aperto-run" help --man run
expect 2 "help does not expect 'rm'" help run rm
expect 2 "help does not expect 'rm'" --help run rm
expect 2 "help does not expect 'rm'" help --man run rm
expect 2 "did you mean 'run'" help runn
expect 0 "Usage: aperto run" --help run
for c in run serve pull list show verify rm tag rollback outdated tokenize render logits bench version; do expect 0 "Usage: aperto $c" "$c" --help; done

# Numbers
for o in -n --top-k --seed --ctx --threads; do
    for v in -1 1e308 nan 9223372036854775808 12x '' ' 5' '5 ' +5 0x5 5.0 1e1 -; do expect 2 "option $o" run tiny hi "$o" "$v"; done
done
for o in --temp --top-p --min-p; do
    for v in -1 1e308 nan inf 1x '' ' 1' '1 ' +1 0x1 0x1p-2 1e -; do expect 2 "option $o" run tiny hi "$o" "$v"; done
done
expect 2 "above 0 and at most 1" run tiny hi --top-p 0
expect 2 "from 0 to 9223372036854775807" run tiny hi --seed 9223372036854775808
expect 2 "is no token id" logits tiny --tokens -1
expect 2 "is no token id" tokenize tiny --decode abc
expect 2 "'-1' is no token id" tokenize tiny --decode -1
expect 2 "has no option '-x'" tokenize tiny -x
for v in 'a b' '' 'a:80' 'http://a' 'a,b'; do expect 2 "option --allow-host" serve tiny --allow-host "$v"; done
for o in -p -n -d -b -r --threads; do expect 2 "option $o" bench tiny "$o" -1; done
expect 2 "option --port" serve tiny --port 65536
for v in lots ' 1G' +1G 0x1G 1GG 1Gx -1G 0 ''; do expect 2 "option --memory" serve tiny --memory "$v"; done
hosts=$(seq -f '--allow-host h%g' 33)
# shellcheck disable=SC2086
expect 2 "option --allow-host may be given 32 times" serve tiny $hosts
expect 2 "--kv-type" run tiny hi --kv-type q4
for c in "run tiny hi" "serve tiny" "bench tiny" "logits tiny --tokens 1"; do
    # shellcheck disable=SC2086
    { expect 2 "option --isa is 'sse'" $c --isa sse; expect 2 "option --sandbox" $c --sandbox off; }
done
expect 2 "no place for --system" run tiny hi --raw --system x
expect 2 "--tokens: 'x' is no token id" logits tiny --tokens 1,x
expect 2 "--tokens: there are no token ids" logits tiny --tokens ,
expect 2 "--tokens: '2147483648'" logits tiny --tokens 2147483648
printf '1,2\0003' >nul
expect 1 "nul: " logits tiny --file nul
expect 2 "--grammar is not in this release" run tiny hi --grammar f
expect 1 "names no repository" pull hf:some

# Files
expect 1 "cannot be opened" pull missing.gguf
expect 1 "a pipe" pull pipe
expect 1 "a device" pull /dev/zero
mkdir empty && expect 1 "the folder holds no model" pull empty
expect 2 "no possible name" pull tiny.gguf --as ../x
printf 'GGUFxxxxxxxxxxxxxxxxxxxxxxxxxxxx' >broken.gguf
expect 1 "version" pull broken.gguf
[ -z "$(ls data/models/blobs 2>/dev/null)" ] && ok || bad "a refused import left something behind"

# The store: whoever only looks makes nothing
for data in "$work/nothing" /proc/nothing; do
    APERTO_DATA=$data timeout 20 "$aperto" list >out 2>err && grep -q "no models yet" out && ok || bad "list without a store"
done
[ -e "$work/nothing" ] && bad "list makes a store" || ok
(ulimit -f 16; timeout 60 "$aperto" pull tiny.gguf >out 2>err) && bad "no room for a model" || ok
grep -q "^aperto: error: the store '.*data/models' cannot be written: " err && ! grep -q tiny.gguf err && ok || bad "a full disk is the source's fault"
expect 0 "tiny" pull tiny.gguf --as tiny
expect 0 "tiny" list
expect 1 "did you mean 'tiny'" show tini
expect 0 "apache-2.0" show tiny
grep -q "^  tools        refused, the template does not show them" out && grep -q "^  BOS          written by the template" out && ok ||
    bad "show does not say what the template does"
expect 0 "is intact" verify tiny
expect 1 "not packed yet" verify ./tiny.gguf
expect 1 "neither a file nor" verify ..x
expect 1 "has no config.json" verify ..
expect 1 "means another model" pull other.gguf --as tiny
expect 0 "" show tiny --json
json 'd["quantization"] == "Q8_0" and len(d["digest"]) == 64'
json 'd["chat"]["system_role"] and not d["chat"]["tools"] and d["chat"]["template_writes_bos"] and not d["chat"]["bos_would_be_doubled"]'
expect 0 "" pull tiny.gguf --as twin
[ "$(ls data/models/blobs | wc -l)" = 1 ] && ok || bad "the same bytes are there twice"
expect 0 "" rm twin
"$make_tiny" long.gguf 8192 && expect 0 "" pull long.gguf

# Names that move
expect 2 "no possible name" tag tiny ../x
expect 2 "needs MODEL NAME" tag tiny
expect 0 "q:4 means" tag tiny q:4
expect 1 "no model 'tinny'; did you mean" tag tinny x
expect 1 "meant nothing else" rollback q:4
expect 1 "--move gives it the new meaning" tag long q:4
expect 0 "stays in its history" tag long q:4 --move
old=$("$aperto" show tiny --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["digest"])')
expect 0 "before         $(printf '%.12s' "$old") until" show q:4
expect 0 "" show q:4 --json
json '[(h["digest"], h["undone"]) for h in d["history"]] == [("'"$old"'", False)] and d["history"][0]["replaced"] > 0'
expect 0 "$old" rollback q:4 --json
json 'd["digest"] == "'"$old"'" and d["moved_from"] != d["digest"]'
expect 0 "undone  " show q:4
expect 0 "" tag long q:4 --move --json
json 'd["name"] == "q:4" and d["moved_from"] == "'"$old"'"'
expect 1 "add --with-history" rm q:4
expect 2 "exclude each other" rm q:4 --with-history --only-history
expect 0 "" rm q:4 --only-history
expect 1 "meant nothing else" rollback q:4
expect 0 "" tag tiny q:4 --move
expect 0 "" rm q:4 --with-history
# A server keeps what it opened; the next one finds what the name means then.
cat >served.py <<'END'
import http.client, json, re, subprocess, sys
aperto, started = sys.argv[1], []
def serve():
    server = subprocess.Popen([aperto, "serve", "n", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    started.append(server)
    return server, int(re.search(r":(\d+)$", server.stdout.readline().strip())[1])
def digest(port):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request("POST", "/v1/chat/completions", json.dumps({"model": "n", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}),
              {"Content-Type": "application/json"})
    return json.load(c.getresponse())["system_fingerprint"][-12:]
def run(*arguments): return subprocess.run([aperto, *arguments], check=True, capture_output=True, text=True).stdout
try:
    run("tag", "tiny", "n")
    first, port = serve()
    before = digest(port)
    run("tag", "long", "n", "--move")
    assert digest(port) == before == json.loads(run("show", "tiny", "--json"))["digest"][:12]
    second, port = serve()
    assert digest(port) == json.loads(run("show", "long", "--json"))["digest"][:12] != before
finally:
    for server in started:
        server.terminate()
        server.wait(timeout=30)
run("rm", "n", "--with-history")
END
timeout 120 python3 served.py "$aperto" >out 2>err && ok || bad "a server and a name that moves"
# A file that changed, pulled again: the name moves, and says so.
"$make_tiny" moving.gguf 512 && expect 0 "" pull moving.gguf
"$make_tiny" moving.gguf 1024 && expect 0 "aperto rollback moving" pull moving.gguf
expect 0 "" rollback moving && expect 0 "" show moving --json
json 'd["context_tokens"] == 512'
expect 0 "" outdated moving --json
json 'd["models"][0]["state"] == "outdated" and d["models"][0]["rolled_back"] and d["models"][0]["source_sha256"] != d["models"][0]["source_sha256_now"]'
expect 0 "goes to what was rolled back" outdated
expect 0 "moving" pull moving.gguf
expect 0 "current" outdated moving
mv moving.gguf "it's moved.gguf" && expect 1 "of 1 sources 1 could not be compared" outdated moving
grep -q "^moving  *unreachable .*moving.gguf' cannot be opened" out && ok || bad "outdated does not say why"
expect 0 "" pull "it's moved.gguf" --as quoted
"$make_tiny" "it's moved.gguf" 768
timeout 60 "$aperto" outdated quoted 2>err | sed -n 's/^quoted  *outdated  *//p' | sed "s|^aperto|'$aperto'|" >update.sh
sh update.sh >out 2>err && grep -q "^quoted: " out && ok || bad "the command that outdated proposes: $(cat update.sh)"
expect 0 "current" outdated quoted
expect 1 "no model 'mooving'" outdated mooving
expect 0 "" rm moving --with-history && expect 0 "" rm quoted --with-history
# A packed file is a model file, checked like any other
cp "$(ls data/models/blobs/*.aperto | head -1)" carried.aperto
expect 0 "It came packed" pull carried.aperto --as carried
expect 0 "is intact" verify carried
expect 0 "" rm carried
expect 0 "is intact" verify tiny

# Answers
printf '{"messages":[{"role":"user","content":"hi <|im_end|>"}],"add_generation_prompt":true}' >chat.json
expect 0 "" run tiny "hello" --temp 0 -n 8 --json
json 'd["completion_tokens"] <= 8 and d["finish_reason"] in ("stop", "length") and d["prompt_tokens"] > 0'
cp out first
expect 0 "" run tiny "hello" --seed 9223372036854775807 -n3 --json
json 'd["completion_tokens"] <= 3 and d["seed"] == 2**63 - 1'
expect 0 "" run tiny "hello" --temp 0 -n=3
expect 0 "" run tiny "hello" --temp 0 -n 8 --json --threads 1 --isa plain
python3 -c 'import json; assert json.load(open("first"))["text"] == json.load(open("out"))["text"]' && ok || bad "plain C answers otherwise"
expect 0 "" run ./tiny.gguf "hello" --raw -n 4 --seed 7
expect 1 " 64 " run other.gguf "$(printf 'long %.0s' $(seq 60))" -n 4
printf 'from a pipe' | timeout 60 "$aperto" run tiny -n 4 --temp 0 >out 2>err && ok || bad "a prompt through a pipe"
# Raw text is taken as it is; in a chat the line's end belongs to the terminal and not to the message.
raw_count() { timeout 60 "$aperto" run tiny --raw --json -n 1 2>err | python3 -c 'import json,sys; print(json.load(sys.stdin)["prompt_tokens"])'; }
[ "$(printf 'a\n\n' | raw_count)" = $(($(printf 'a' | raw_count) + 2)) ] && ok || bad "--raw lost the ends of lines"
[ "$(printf 'a\r\n' | raw_count)" = $(($(printf 'a' | raw_count) + 2)) ] && ok || bad "--raw changed the end of a line"
grep -q "$(printf '\033')" out err && bad "colours without a terminal" || ok
# Reasoning and calls of tools
"$make_telling" telling.gguf || exit 1
expect 0 "Chats: system messages shown; tools shown, calls read in the form 'Hermes', those of earlier turns shown with their results; reasoning: told apart" pull telling.gguf
expect 0 "" show telling --json
json 'd["chat"]["calls"] == "Hermes" and d["chat"]["calls_are_read"] and d["chat"]["reasoning"]'
expect 0 "" rm telling
cat >tools.json <<'EOF'
[{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
EOF
sed 's/"name"/"nam"/' tools.json >wrong.json
expect 0 "" run telling.gguf "In Turin?" --json
json 'd["reasoning"] == "The user wants the weather." and d["tool_calls"] == [] and d["finish_reason"] == "stop"'
json 'd["text"].startswith("<tool_call>")'
expect 0 "" run telling.gguf "In Turin?" --json --tools tools.json
json 'd["text"] == "" and d["finish_reason"] == "tool_calls" and len(d["tool_calls"]) == 1'
json 'd["tool_calls"][0]["function"] == {"name": "weather", "arguments": "{\"city\": \"Turin\"}"}'
expect 0 "" run telling.gguf "21 C" --json
json 'd["text"] == "It is warm in Turin." and d["reasoning"] is None and d["tool_calls"] == []'
expect 0 "<tool_call>" run telling.gguf "In Turin?"
grep -q "user wants" out err && bad "reasoning in the plain output" || ok
expect 0 "" run telling.gguf "In Turin?" -n 2
grep -q "still thinking" err && ok || bad "nothing says that the answer was cut while the model was thinking"
expect 1 "tools[0].function.nam" run telling.gguf hi --json --tools wrong.json
expect 1 "none.json" run telling.gguf hi --json --tools none.json
expect 1 "does not show tools" run tiny hi --json --tools tools.json
expect 2 "--json" run telling.gguf hi --tools tools.json
expect 2 "--raw" run telling.gguf hi --raw --json --tools tools.json
expect 2 "the prompt is empty" run tiny ""
for c in list version help "help --man run" "run --help" "show tiny" "show tiny --json" "verify tiny" "tokenize tiny hi" "tokenize tiny hi --json" \
    "tokenize tiny --decode 40" "render tiny --context chat.json" "logits tiny --tokens 1" "logits tiny --tokens 1 --digest" \
    "bench tiny -p 4 -n 2 -r 1" "run tiny hi -n 4 --temp 0" "run tiny hi -n 4 --json" "pull tiny.gguf" "serve tiny --port 0"; do
    for where in /dev/full closed; do
        # shellcheck disable=SC2086
        if [ $where = closed ]; then timeout 20 "$aperto" $c >&- 2>err </dev/null; else timeout 20 "$aperto" $c >$where 2>err </dev/null; fi
        got=$?
        [ $got = 1 ] && [ "$(grep -c '^aperto: error: .*standard output' err)" = 1 ] && [ "$(wc -l <err)" = 1 ] && ok ||
            bad "aperto $c with standard output $where: exit $got"
    done
done

timeout 60 "$aperto" run tiny -n 2 --temp 0 "hello" <&- >out 2>err && ok || bad "no standard input"
timeout 60 "$aperto" run tiny -n 2 --temp 0 "hello" </dev/null 2>&- >&- && bad "no standard output" || ok
timeout 20 "$aperto" run long "hello" --temp 0 </dev/null 2>err | head -c 1 >out && ok || bad "a reader that leaves"
expect 0 "is intact" verify ./tiny.gguf
# What was given by path is there as well, and a name of any length leaves the columns where they are.
cp tiny.gguf only-by-path.gguf && expect 0 "" run ./only-by-path.gguf hi -n 1
expect 0 "by path: $work/only-by-path.gguf" list
expect 0 "offers it as 'only-by-path'" show only-by-path
expect 1 "write '$work/only-by-path.gguf'" run only-by-path hi
expect 0 "offers it as 'only-by-path'" show ./only-by-path.gguf
expect 0 "" list --json
json 'sum(m["by_path"] for m in d["models"]) >= 1'
long_name=a$(seq -s '' 1 45)
expect 0 "" pull tiny.gguf --as "$long_name"
expect 0 "" list
[ "$(awk '{ print index($0, $2) }' out | sort -u | wc -l)" = 1 ] && ok || bad "the columns of list"
expect 0 "" rm "$long_name"
# A packed file that is gone
"$make_tiny" gone.gguf 4096 && expect 0 "" pull gone.gguf
rm -f "data/models/blobs/$("$aperto" show gone --json | python3 -c 'import json,sys; print(json.load(sys.stdin)["digest"])').aperto"
for c in "run gone hi" "verify gone" "serve gone --port 0"; do
    # shellcheck disable=SC2086
    expect 1 "is missing; import the model again from $work/gone.gguf" $c
done
expect 0 "damaged: import it again from $work/gone.gguf" list
expect 0 "damaged        the packed file is missing" show gone
expect 0 "" show gone --json
json 'd["damaged"]'
expect 0 "" pull gone.gguf && expect 0 "is intact" verify gone && expect 0 "" rm gone
expect 0 "" rm ./tiny.gguf
expect 1 "nothing was packed" rm ./tiny.gguf
expect 1 "not in the vocabulary" tokenize tiny --decode 99999999
expect 0 "" tokenize tiny "-5 degrees"
expect 1 "cannot be opened" tokenize missing.gguf hi
# Floats become fewer bits; nothing that is there is written over, nothing half-written stays.
"$make_tiny" floats.gguf 512 1 0
expect 2 "option --type is needed" quantize floats.gguf q4.gguf
expect 0 "Q4_K_M" quantize floats.gguf q4.gguf --type Q4_K_M
expect 1 "exists already" quantize floats.gguf q4.gguf --type Q8_0
expect 1 "is Q8_0 already" quantize tiny.gguf other4.gguf --type Q4_0
expect 1 "no type to quantise to" quantize floats.gguf other4.gguf --type Q4
expect 2 "options --file and --out are needed" imatrix tiny.gguf --file text.txt
printf 'The quick brown fox jumps over the lazy dog, and so does the next one.' >text.txt
expect 0 "chunks" imatrix tiny.gguf --file text.txt --out text.imatrix --ctx 16
expect 1 "exists already" imatrix tiny.gguf --file text.txt --out text.imatrix
expect 1 "made for" imatrix tiny.gguf --file text.txt --out other4.imatrix --ctx 8192
printf '\377' >broken.txt
expect 1 "UTF-8" imatrix tiny.gguf --file broken.txt --out other4.imatrix
: >empty.txt
expect 1 "no tokens" imatrix tiny.gguf --file empty.txt --out other4.imatrix
expect 0 "Q4_0" quantize floats.gguf weighed.gguf --type Q4_0 --imatrix text.imatrix
expect 1 "holds no importances" quantize floats.gguf other4.gguf --type Q4_0 --imatrix floats.gguf
# Perplexity, and the passport of a quantised file: measured, kept, travelling beside the file, shown.
expect 2 "option --file is needed" perplexity tiny.gguf
expect 1 "UTF-8" perplexity tiny.gguf --file broken.txt
expect 1 "nothing is foretold" perplexity tiny.gguf --file empty.txt
expect 1 "made for" perplexity tiny.gguf --file text.txt --ctx 8192
expect 0 "perplexity     " perplexity tiny.gguf --file text.txt --ctx 32
expect 0 "" perplexity floats.gguf --file text.txt --ctx 32 --chunks 2 --json
json 'd["predictions"] > 10 and d["perplexity"] > 1 and "passport" not in d'
expect 1 "they cannot be compared" perplexity tiny.gguf --file text.txt --ctx 32 --parent "$source/tests/golden/arch/llama"
expect 1 "are the same file" perplexity tiny.gguf --file text.txt --parent tiny.gguf
expect 1 "missing.txt' cannot be read" quantize floats.gguf bare.gguf --type Q8_0 --text missing.txt
expect 0 "It has no passport" quantize floats.gguf bare.gguf --type Q8_0
expect 0 "the same likeliest token" quantize floats.gguf measured.gguf --type Q4_0 --text text.txt --ctx 32
expect 0 "" pull measured.gguf --as measured
expect 0 "passport       against floats.gguf" show measured
expect 0 "" show measured --json
json 'd["passport"]["parent_sha256"] == "'"$(sha256sum <floats.gguf | cut -d ' ' -f 1)"'" and d["passport"]["sha256"] == "'"$(sha256sum <measured.gguf | cut -d ' ' -f 1)"'"'
json 'd["passport"]["text"] == "text.txt" and d["passport"]["text_sha256"] == "'"$(sha256sum <text.txt | cut -d ' ' -f 1)"'" and 0 < d["passport"]["kl_mean"] <= d["passport"]["kl_999"]'
cp out measured.json
expect 0 "" perplexity measured --parent floats.gguf --file text.txt --ctx 32 --threads 1 --isa plain --json
python3 -c 'import json
a, b = json.load(open("measured.json"))["passport"], json.load(open("out"))["passport"]
assert a.pop("created") and b.pop("created") and a == b, (a, b)' && ok || bad "a passport on another level"
# In another store it comes along with the file; beside another file it is nobody's, and is said.
APERTO_DATA=$PWD/elsewhere expect 0 "" pull measured.gguf --as moved
APERTO_DATA=$PWD/elsewhere expect 0 "passport       against floats.gguf" show moved
cp measured.gguf.passport.json bare.gguf.passport.json
expect 0 "is not of this file" pull bare.gguf --as bare
expect 0 "" show bare --json
json 'd["passport"] is None'
expect 1 "cannot be created" quantize floats.gguf missing/other4.gguf --type Q4_0
[ -z "$(find . -name '*other4*')" ] && ok || bad "a refused quantize left a file: $(find . -name '*other4*')"
expect 0 "" run q4.gguf hi -n 4 --temp 0
timeout 60 "$aperto" quantize floats.gguf q4again.gguf --type Q4_K_M --threads 1 --json >out 2>err
cmp -s q4.gguf q4again.gguf && ok || bad "another number of threads writes other bytes"
json 'd["type"] == "Q4_K_M" and d["written_bytes"] < d["source_bytes"] and d["tensors_changed"] > 5'
expect 1 "a context of" bench tiny -p 99999
expect 0 "is intact" verify tiny
chmod 600 data/models/blobs/*; for blob in data/models/blobs/*; do printf X | dd of="$blob" bs=1 seek=4000 conv=notrunc 2>/dev/null; done
expect 1 "damaged" verify tiny
expect 1 "damaged" run tiny hi
expect 0 "tiny" pull tiny.gguf --as tiny
expect 0 "is intact" verify tiny
expect 0 '"sandbox"' version --json

# An encoder makes vectors and scores, and no text
mkdir encoder && cp "$source"/tests/golden/arch/bert/config.json "$source"/tests/golden/arch/bert/model.safetensors encoder/
expect 0 "encoder" pull encoder --as encoder
expect 0 "This is an encoder: it makes embeddings and scores" show encoder
expect 0 "" logits encoder --tokens 5,6,7 --types 0,0,1 --all
json 'len(d["rows"]) == 3 and d["rows"][2]["position"] == 2 and d["embedding"] == d["rows"][0]["hidden"] and len(d["scores"]) == 3'
digest=$(timeout 60 "$aperto" logits encoder --tokens 5,6,7 --digest --isa plain --threads 1)
[ "${#digest}" = 64 ] && [ "$(timeout 60 "$aperto" logits encoder --tokens 5,6,7 --digest)" = "$digest" ] &&
    [ "$(timeout 60 "$aperto" logits encoder --tokens 5,6,7 --types 0,1,1 --digest)" != "$digest" ] && ok || bad "digests of an encoder"
expect 2 "--types has 2 numbers" logits encoder --tokens 5,6,7 --types 0,1
expect 2 "--types has 1 numbers" logits encoder --tokens 5 --types 256
expect 1 "token type 2" logits encoder --tokens 5 --types 2
expect 1 "--chunk is not for encoders" logits encoder --tokens 5 --chunk 1
expect 1 "--types is for encoders only" logits tiny --tokens 5 --types 0
expect 1 "is an encoder (bert)" run encoder hi
expect 1 "is an encoder (bert)" serve encoder --port 0
expect 1 "is an encoder" bench encoder
mkdir encoder/1_Pooling && echo '{"pooling_mode_max_tokens": true}' >encoder/1_Pooling/config.json
expect 0 "" pull encoder --as scores # a head has its own pooling
sed 's/ForSequenceClassification/Model/' encoder/config.json >plain.json && mv plain.json encoder/config.json
expect 1 "pooling_mode_max_tokens" pull encoder --as plain

# A folder is a model like a file: the same weights give the same bits
for type in 0 1 30; do
    mkdir folder && "$make_tiny" folder/ 2048 2 0 $type && "$make_tiny" same.gguf 2048 2 0 $type || bad "no tiny folder"
    from_file=$(timeout 60 "$aperto" logits ./same.gguf --tokens 5,1,200,64,5,9 --all --digest)
    [ -n "$from_file" ] && [ "$(timeout 60 "$aperto" logits ./folder --tokens 5,1,200,64,5,9 --all --digest)" = "$from_file" ] &&
        [ "$(timeout 60 "$aperto" logits folder/ --tokens 5,1,200,64,5,9 --all --digest --kv-type f16)" = "$from_file" ] && ok || bad "type $type: folder and file differ"
    [ $type = 30 ] || rm -r folder same.gguf
done
# … and it becomes a GGUF file of the same bits, which no failure leaves half-written
expect 0 "tensors" convert folder converted.gguf
[ "$(timeout 60 "$aperto" logits ./converted.gguf --tokens 5,1,200,64,5,9 --all --digest)" = "$from_file" ] && ok || bad "the converted folder differs"
expect 1 "exists already" convert folder converted.gguf
expect 1 "its name ends in .gguf, 'refused' does not" convert folder refused
expect 0 "" convert folder converted.gguf --force --json
json 'd["tensors"] > 0 and d["written_bytes"] > 0'
mkdir broken && cp folder/config.json broken && head -c 1000 folder/model.safetensors >broken/model.safetensors
expect 1 "model.safetensors" convert broken refused.gguf
expect 1 "'missing/refused.gguf' cannot be created" convert folder missing/refused.gguf
cp converted.gguf kept.gguf && expect 1 "" convert broken kept.gguf --force && cmp -s kept.gguf converted.gguf && ok || bad "a failure touched the file that was there"
# … and quantising it gives what quantising that file gives
expect 0 "no tokenizer" quantize folder direct.gguf --type Q4_K_M
expect 0 "" quantize converted.gguf over.gguf --type Q4_K_M
cmp -s direct.gguf over.gguf && ok || bad "quantising a folder and its GGUF file differ"
expect 1 "no config.json" quantize broken/.. refused.gguf --type Q8_0
expect 1 "model.safetensors" quantize broken refused.gguf --type Q8_0
# Its passport is against the folder, and not against what the store calls so
expect 0 "" convert same.gguf voiced && expect 0 "" pull floats.gguf --as voiced
expect 0 "passport       against voiced" quantize voiced small.gguf --type Q8_0 --text text.txt --ctx 32
expect 0 "" show ./small.gguf --json && cp out small.json && expect 0 "" show ./voiced --json
json 'd["source_sha256"] == json.load(open("small.json"))["passport"]["parent_sha256"]'
expect 0 "" rm voiced
# … and a folder again, a new one or one without files; nothing says more than the name that was given
mkdir again
expect 0 "again: a folder, " convert converted.gguf again
expect 1 "'missing/refused' cannot be created" convert converted.gguf missing/refused
mkdir refused && touch refused/file && expect 1 "'refused' exists already and is not empty" convert converted.gguf refused
rm -r refused
# A name in the store stands for what it was made of, while that is there unchanged
expect 0 "" pull converted.gguf --as stored:one
expect 0 "a folder" convert stored:one named && cmp -s named/model.safetensors again/model.safetensors && ok || bad "the name in the store is another model"
expect 0 "" quantize stored:one named.gguf --type Q4_K_M && cmp -s named.gguf over.gguf && ok || bad "the name in the store is quantised otherwise"
mv converted.gguf moved.gguf
expect 1 "the store has 'stored:one' in packed form only" convert stored:one refused
cp same.gguf converted.gguf && expect 1 "is another one now" quantize stored:one refused.gguf --type Q8_0
mv moved.gguf converted.gguf
expect 0 "" rm stored:one
# Where another program is known to compute something else from the file, a line says so
expect 0 "" convert "$source/tests/golden/arch/mistral_window" window.gguf
[ "$(grep -c '^aperto: warning: llama.cpp computes something else from this file: every layer sees the whole context' err)" = 1 ] && ok || bad "no warning"
expect 0 "" convert "$source/tests/golden/arch/llama" whole.gguf
[ -s err ] && bad "a warning about a model that all read alike" || ok
[ "$(timeout 60 "$aperto" logits ./again --tokens 5,1,200,64,5,9 --all --digest)" = "$from_file" ] && ok || bad "the folder that was written differs"
expect 1 "exists already" convert converted.gguf again/
expect 1 "strange name" convert converted.gguf refused.gguf
expect 2 "" convert converted.gguf refused --shard 1
expect 1 "no type of a folder" convert converted.gguf refused --type Q8_0
head -c 3000 converted.gguf >cut.gguf && expect 1 "" convert cut.gguf refused
[ -z "$(find . -name '*refused*' -o -name '*.new-*')" ] && ok || bad "a refused convert left a file: $(find . -name '*refused*' -o -name '*.new-*')"
expect 0 "tiny" show ./folder
expect 0 "is intact" verify ./folder
expect 0 "no tokenizer" pull folder --as by-name
expect 0 "by-name" list
expect 0 "no tokenizer" show by-name
expect 0 "" rm by-name
expect 0 "" rm folder/
# A name of no model is a path, if something lies there; the name of a model stays one
expect 0 "tiny" show folder
expect 1 "came without a tokenizer" run folder hi --raw
expect 1 "came without a tokenizer" tokenize folder hi
expect 1 "has no chat template" render folder --context chat.json
expect 0 "" rm folder
mkdir tiny && expect 0 "" tokenize tiny hi && rmdir tiny
expect 1 "'aperto list' shows those that are" show elsewhere-entirely
expect 1 "came without a tokenizer" run ./folder hi --raw
expect 1 "came without a tokenizer" tokenize ./folder hi
mv folder/model.safetensors.index.json index && expect 1 "folder: the folder has neither model.safetensors" pull folder && mv index folder/model.safetensors.index.json
printf 'PK\003\004archive' >model.bin
expect 1 "a pickle file" pull model.bin
cp folder/model-00001-of-00002.safetensors part.safetensors
expect 1 "give the folder" pull part.safetensors
rm -r folder

# Memory: a terabyte of keys and values is refused before it is taken
"$make_tiny" wide.gguf 16777216 64 && expect 0 "" pull wide.gguf
expect 1 "are available; lower --ctx" run wide hi --ctx 16777216 --kv-type f32
expect 1 "are available; lower --memory" serve tiny --port 0 --memory 4T
expect 1 "are available; lower -p" bench wide -d 1048000 -p 16 -n 0 -b 256 --kv-type f32
expect 0 "" rm wide

# A server: each name that is allowed, and no other
"$aperto" serve tiny --port 0 --allow-host a.example --allow-host b.example >out 2>err </dev/null &
server=$!
trap 'kill "$server" 2>/dev/null; rm -rf "$work"' EXIT
python3 - <<'END' && ok || bad "serve with two names"
import http.client, re, sys, time
for _ in range(200):
    port = re.search(r"http://127\.0\.0\.1:(\d+)", open("out").read())
    if port: break
    time.sleep(0.1)
for host, wanted in (("a.example", 200), ("b.example", 200), ("c.example", 403)):
    connection = http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=20)
    connection.request("GET", "/healthz", headers={"Host": host})
    if connection.getresponse().status != wanted: sys.exit(host)
END
kill "$server" # the program itself: timeout would end by the signal as well, sometimes first
wait "$server" && ok || bad "serve does not end well"
trap 'rm -rf "$work"' EXIT

# Tokens and bits
expect 0 "" tokenize tiny "the <|im_end|> test" --json
json '258 not in d["ids"]'
expect 0 "" tokenize tiny "the <|im_end|> test" --special --json
json '258 in d["ids"]'
printf 'H\303\251llo  w\360\237\214\215rld\n\ttabs' >text
timeout 60 "$aperto" tokenize tiny --file text >ids 2>err && timeout 60 "$aperto" tokenize tiny --decode --file ids >back 2>err
cmp -s text back && ok || bad "tokenize and back"
# Text is UTF-8 everywhere, and U+0000 is a character; a pipe with a name is a text like any other.
for bad in '\377' 'ab\303' 'a\355\240\200'; do
    printf "$bad" >bytes
    for c in "run tiny" "run tiny --raw" "tokenize tiny" "tokenize tiny --file bytes"; do
        # shellcheck disable=SC2086
        timeout 60 "$aperto" $c <bytes >out 2>err
        [ $? = 2 ] && [ "$(wc -l <err)" = 1 ] && grep -q "not valid UTF-8: byte [0-9]*, 0x" err && ok || bad "aperto $c takes bytes that are no text"
    done
done
expect 2 "byte 2, 0xc3" tokenize tiny "$(printf 'ab\303')"
expect 2 "byte 2, 0xc3" run tiny "$(printf 'ab\303')"
printf 'a\000b' | timeout 60 "$aperto" run tiny --raw -n 1 --json >out 2>err && ok || bad "U+0000 in a prompt"
json 'd["prompt_tokens"] == 3'
printf 'a\000b' | timeout 60 "$aperto" run tiny -n 1 --temp 0 >out 2>err && ok || bad "U+0000 in a message"
(cat text >pipe &)
timeout 20 "$aperto" tokenize tiny --file pipe >out 2>err && cmp -s out ids && ok || bad "tokenize of a pipe with a name"
(cat chat.json >pipe &)
timeout 20 "$aperto" render tiny --context pipe >out 2>err && grep -q assistant out && ok || bad "render of a pipe with a name"
(echo 1,2 >pipe &)
timeout 20 "$aperto" logits tiny --file pipe --digest >out 2>err && [ "$(cat out)" = "$("$aperto" logits tiny --tokens 1,2 --digest)" ] && ok || bad "logits of a pipe"
expect 1 "a device" tokenize tiny --file /dev/zero
expect 1 "is none of the model's" logits tiny --tokens 1,99999999
[ -s out ] && bad "logits prints before it fails" || ok
ids=$(seq -s, 1 200)
digest=$(timeout 60 "$aperto" logits tiny --tokens "$ids" --all --digest)
for o in "--chunk 1" "--chunk 7" "--chunk 64" "--threads 1" "--threads 3" $("$aperto" version --json | python3 -c 'import json,sys; print(" ".join("--isa=" + i for i in json.load(sys.stdin)["isa"]))'); do
    # shellcheck disable=SC2086
    [ "$(timeout 120 "$aperto" logits tiny --tokens "$ids" --all --digest $o)" = "$digest" ] && ok || bad "another digest with $o"
done

# Adapters: in logits and run, in two forms, and what is none
"$make_tiny" adapter.gguf adapter || bad "an adapter"
mkdir peft half_peft && cp "$source/tests/golden/adapter/llama_root/adapter_config.json" peft/ && cp peft/adapter_config.json half_peft/ &&
    cp "$source/tests/golden/adapter/llama_root/adapter_model.safetensors" peft/ || bad "a PEFT folder"
adapted=$(timeout 60 "$aperto" logits tiny --tokens "$ids" --all --digest --adapter adapter.gguf)
[ -n "$adapted" ] && [ "$adapted" != "$digest" ] && ok || bad "an adapter changes nothing"
[ "$(timeout 60 "$aperto" logits tiny --tokens "$ids" --all --digest --adapter adapter.gguf --chunk 7 --threads 3)" = "$adapted" ] && ok || bad "another digest with an adapter"
plain=$(timeout 60 "$aperto" run tiny "the" --raw --temp 3 --seed 1 -n 60)
with=$(timeout 60 "$aperto" run tiny "the" --raw --temp 3 --seed 1 -n 60 --adapter adapter.gguf)
[ -n "$with" ] && [ "$with" != "$plain" ] && ok || bad "run with an adapter answers as without"
[ "$(timeout 60 "$aperto" logits "$source/tests/golden/arch/llama" --tokens 5,6 --digest --adapter peft)" != \
    "$(timeout 60 "$aperto" logits "$source/tests/golden/arch/llama" --tokens 5,6 --digest)" ] && ok || bad "a PEFT folder changes nothing"
expect 1 "q_proj.lora_A.weight' has 9 rows of 48; this model needs 9 of 256" run tiny "the" --adapter peft
expect 1 "q_proj.lora_A.weight' has 9 rows of 48; this model needs 9 of 256" logits tiny --tokens 1 --adapter peft
expect 1 "key 'general.type' is missing" logits tiny --tokens 1 --adapter tiny.gguf
expect 1 "half_peft/adapter_model.safetensors" run tiny "the" --adapter half_peft
expect 1 "a device" run tiny "the" --adapter /dev/zero
: >half_peft/adapter_model.bin
expect 1 "is a pickle file" run tiny "the" --adapter half_peft
rm half_peft/adapter_model.bin
"$make_tiny" short.gguf 64 && expect 1 "short: a context of 1024 tokens" serve tiny short.gguf --ctx 1024 --port 0
expect 2 "--adapter is for one MODEL, and 2 are given" serve tiny long --adapter adapter.gguf
expect 1 "half_peft/adapter_model.safetensors" serve tiny --adapter half_peft
expect 1 "q_proj.lora_A.weight' has 9 rows of 48" serve tiny --adapter peft --port 0
with=$(timeout 60 "$aperto" run tiny "the" --raw --temp 2 --seed 1 -n 60 --adapter adapter.gguf)
expect 0 "" run tiny "the" --raw --temp 2 --seed 1 -n 60 --adapter adapter.gguf --json
json 'd["adapter_sha256"] == "'"$(sha256sum <adapter.gguf | cut -d ' ' -f 1)"'"'
# The same answer over HTTP, also of a worker that was started again; an adapter that changed is not served in its place.
cat >adapted.py <<'END'
import http.client, json, os, re, signal, subprocess, sys, time
aperto, want, sum = sys.argv[1:]
server = subprocess.Popen([aperto, "serve", "tiny", "--adapter", "adapter.gguf", "--port", "0"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True)
port = int(re.search(r":(\d+)$", server.stdout.readline().strip())[1])
def ask(method, path, body=None):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
    return json.load(c.getresponse())
def kill_worker():
    for pid in open(f"/proc/{server.pid}/task/{server.pid}/children").read().split():
        os.kill(int(pid), signal.SIGKILL)
def until(good, *request):
    for _ in range(200):
        answer = ask(*request)
        if good(answer):
            return
        time.sleep(.1)
    sys.exit(f"the last answer was {answer}")
try:
    completion = "POST", "/v1/completions", {"model": "tiny", "prompt": "the", "temperature": 2, "seed": 1, "max_tokens": 60}
    is_same = lambda a: "choices" in a and a["choices"][0]["text"] == want and a["system_fingerprint"].endswith("-" + sum[:12])
    until(is_same, *completion)
    kill_worker()
    until(is_same, *completion)
    os.utime("adapter.gguf", ns=(1, 1))
    kill_worker()
    until(lambda a: "was changed" in str(a), "GET", "/readyz")
finally:
    server.terminate()
    server.wait(timeout=60)
END
timeout 120 python3 adapted.py "$aperto" "$with" "$(sha256sum <adapter.gguf | cut -d ' ' -f 1)" >out 2>err && ok || bad "an adapter over HTTP"

expect 0 "" bench tiny -p 16 -n 4 -r 1 --json
json '[r["kind"] for r in d["results"]] == ["prompt", "generate"]'
# One layer of six products' worth of 256 x 256 weights, two operations each.
json 'abs(d["results"][0]["of_ceiling"] - d["results"][0]["tokens_per_s"] * 12 * 256 * 256 / 1e9 / d["ceilings"]["int8_gop_s"]) < 0.002'
json 'd["results"][1]["of_ceiling"] > 0 and d["ceilings"]["int8_gop_s"] > 0.1 and d["ceilings"]["read_gb_s"] > 0.1'
expect 0 "<|im_start|>assistant" render tiny --context chat.json

# The library alone
"$import_tool" tiny.gguf tiny.aperto >/dev/null && timeout 60 "$ask" tiny.aperto "the" >asked 2>err && ok || bad "the example program"
# It asks through the chat template, so the program says the same to the same seed.
expect 0 "" run tiny "the" --temp 1 --top-p 1 --seed 0 -n 32
cmp -s out asked && ok || bad "the example answers otherwise than run"
expect 0 "" run tiny "the" --raw --temp 1 --top-p 1 --seed 0 -n 32
cmp -s out asked && bad "a chat and raw text cannot be told apart" || ok
nan=$(timeout 60 "$aperto" tokenize tiny "z" --no-bos)
"$make_tiny" nan.gguf 2048 1 "$nan" && "$import_tool" nan.gguf nan.aperto >/dev/null || bad "a model with a NaN"
timeout 60 "$ask" nan.aperto "the" >out 2>err && ok || bad "the example on a model with a NaN elsewhere"
timeout 60 "$ask" nan.aperto "z" >out 2>err && bad "the example does not notice that its request failed" || ok
grep -q "^ask: .*finite" err && ok || bad "the example does not say why its request failed"
timeout 60 "$ask" tiny.aperto "the" >/dev/full 2>err && bad "the example does not notice a full device" || ok
timeout 60 "$ask" tiny.aperto "$(printf '\377')" >out 2>err && bad "the example takes what is not UTF-8" || ok
[ "$(wc -l <"$source/examples/ask.c")" -le 40 ] && ok || bad "the example has more than 40 lines"
timeout 60 "$ask" >out 2>err && bad "the example without arguments" || ok
timeout 60 "$ask" tiny.gguf "the" >out 2>err && bad "the example took a file that is not packed" || ok

printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
