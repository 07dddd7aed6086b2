"""A DNS provider for kongferry's `exec`: a JSON file is its zone. Knobs for tests are files beside it."""
import json, os, sys, time

directory = sys.argv[1]
state_file = os.path.join(directory, "state.json")


def knob(name):
    path = os.path.join(directory, name)
    if os.path.exists(path):
        os.unlink(path)
        return True
    return False


def answer(**fields):
    print(json.dumps({"v": 1, "ok": True, **fields}))


def fail(code, message):
    print(json.dumps({"v": 1, "ok": False, "code": code, "message": message, "retry_after_s": 7}))
    sys.exit(0)


request = json.load(sys.stdin)
with open(os.path.join(directory, "seen"), "a") as seen:
    seen.write(request["op"] + " " + " ".join(sorted(k for k in os.environ if k.startswith("KF_"))) + "\n")
for code in ("auth", "throttled", "invalid", "conflict"):
    if knob("fail-" + code):
        fail(code, "the test wants it")
if knob("nonsense"):
    print("this is not JSON")
    sys.exit(0)
if knob("crash"):
    sys.exit("it broke")
with open(state_file) as file:
    state = json.load(file)
if request["op"] == "capabilities":
    answer(max_sum=10000, compare_and_swap=True, poll_seconds=1, min_ttl=5,
           hidden=os.path.exists(os.path.join(directory, "hidden")))
elif request["op"] == "list":
    if not os.path.exists(os.path.join(directory, "list.json")):
        fail("unsupported", "it cannot list")
    with open(os.path.join(directory, "list.json")) as file:
        answer(**json.load(file))
elif request["op"] == "read":
    answer(version=str(state["version"]), records=state["records"], marker=state["marker"])
elif request["op"] == "apply":
    if request["expect"] not in (None, str(state["version"])):
        fail("conflict", "it is at version %s" % state["version"])
    state = {"version": state["version"] + 1, "records": request["records"], "marker": request["marker"], "asked": 0}
    with open(state_file, "w") as file:
        json.dump(state, file)
    if knob("hang-after-write"):
        time.sleep(3600)
    answer(change_id="c%d" % state["version"])
elif request["op"] == "confirm":
    state["asked"] += 1
    with open(state_file, "w") as file:
        json.dump(state, file)
    answer(state="insync" if state["asked"] > 1 else "pending")
