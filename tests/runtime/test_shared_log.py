"""Records of several processes in one list, and what is left of it."""

import gc
import os
import pickle
import subprocess
import sys

from deepcluster_sk._runtime.shared_log import SharedLog

SEND = """
import pickle, sys
log = pickle.load(sys.stdin.buffer)
for number in sys.argv[1:]:
    log.append({"number": int(number)})
sys.stdout.buffer.write(pickle.dumps(log))
"""


def send(pickled, *numbers):
    """Append in another process; return the pickle of its copy."""
    command = [sys.executable, "-c", SEND, *map(str, numbers)]
    return subprocess.run(command, input=pickled, capture_output=True, check=True).stdout


def numbers(log):
    return sorted(record["number"] for record in log.records())


def test_records_of_other_processes_arrive():
    log = SharedLog()
    log.append({"number": 0})
    pickled = pickle.dumps(log)
    there = send(pickled, 1, 2)
    assert numbers(log) == [0, 1, 2]
    send(there, 3)  # a process that was started by another one
    log.append({"number": 4})
    assert numbers(log) == [0, 1, 2, 3, 4]


def test_a_copy_in_the_same_process_is_on_its_own():
    log = SharedLog()
    log.append({"number": 0})
    send(pickle.dumps(log), 1)
    copy = pickle.loads(pickle.dumps(log))
    copy.append({"number": 2})
    assert numbers(copy) == [0, 1, 2]
    assert numbers(log) == [0, 1]


def test_the_folder_goes_with_the_log_and_copies_outlive_it():
    log = SharedLog()
    log.append({"number": 0})
    assert log._folder is None  # as long as there is one process
    pickled = pickle.dumps(log)
    folder = log._folder
    assert os.listdir(folder) == []
    del log
    gc.collect()
    assert not os.path.exists(folder)
    assert numbers(pickle.loads(pickled)) == [0]
    assert numbers(pickle.loads(send(pickled, 1))) == [0, 1]


def test_a_copy_keeps_its_records_if_the_folder_goes_while_it_is_in_use(monkeypatch):
    log = SharedLog()
    pickled = pickle.dumps(log)
    with monkeypatch.context() as patch:
        patch.setattr("deepcluster_sk._runtime.shared_log._LOADED", "another process")
        copy = pickle.loads(pickled)
        copy.append({"number": 1})
        assert numbers(copy) == []
        os.rename(log._folder, f"{log._folder}-moved")
        copy.append({"number": 2})
        assert numbers(copy) == [2]
    os.rename(f"{log._folder}-moved", log._folder)
    assert numbers(log) == [1]
