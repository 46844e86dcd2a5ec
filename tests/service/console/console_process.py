"""A server of the admin pages as a process of its own: prints its address and a key, and serves until it is killed.

Arguments: a folder for its accounts, and the database of people.
"""

import json
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "api"))

from lobby import Said, configuration, open_hall

from charter_service.people.places import CONSOLE, note_place

if __name__ == "__main__":
    folder, people = Path(sys.argv[1]), sys.argv[2]
    with open_hall(folder, configuration(people=people), said=Said("Hello")) as hall:
        note_place(hall.service.people.engine(), CONSOLE, hall.url)
        print(json.dumps({"address": hall.url, "key": hall.key("house", ("admin",))}), flush=True)
        while True:
            time.sleep(3600)
