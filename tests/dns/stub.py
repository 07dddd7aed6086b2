"""A DNS provider for kongferry's `exec`: its zone is a JSON file. A file with the name of a fault injects it once."""
import json, os, sys, time

directory = sys.argv[1]
state_file = os.path.join(directory, "state.json")


def injected(fault):
    path = os.path.join(directory, fault)
    if os.path.exists(path):
        os.unlink(path)
        return True
    return False


def respond(**fields):
    print(json.dumps({"v": 1, "ok": True, **fields}))


def fail(code, message):
    print(json.dumps({"v": 1, "ok": False, "code": code, "message": message, "retry_after_s": 7}))
    sys.exit(0)


request = json.load(sys.stdin)
for code in ("auth", "throttled", "invalid", "conflict"):
    if injected("fail-" + code):
        fail(code, "injected by a test")
if injected("nonsense"):
    print("this is not JSON")
    sys.exit(0)
if injected("crash"):
    sys.exit("injected crash")
with open(state_file) as file:
    state = json.load(file)
if request["op"] == "capabilities":
    respond(max_sum=10000, compare_and_swap=True, poll_seconds=1, min_ttl=5,
           hidden=os.path.exists(os.path.join(directory, "hidden")))
elif request["op"] == "list":
    if not os.path.exists(os.path.join(directory, "list.json")):
        fail("unsupported", "it cannot list records")
    with open(os.path.join(directory, "list.json")) as file:
        respond(**json.load(file))
elif request["op"] == "read":
    respond(version=str(state["version"]), records=state["records"], marker=state["marker"])
elif request["op"] == "apply":
    if request["expect"] not in (None, str(state["version"])):
        fail("conflict", "the version is %s" % state["version"])
    state = {"version": state["version"] + 1, "records": request["records"], "marker": request["marker"], "asked": 0}
    with open(state_file, "w") as file:
        json.dump(state, file)
    if injected("hang-after-write"):
        time.sleep(3600)
    respond(change_id="c%d" % state["version"])
elif request["op"] == "confirm":
    state["asked"] += 1
    with open(state_file, "w") as file:
        json.dump(state, file)
    respond(state="insync" if state["asked"] > 1 else "pending")
