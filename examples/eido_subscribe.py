"""Be a CAD that subscribes to EIDOs: eido_subscribe.py ws://HOST:PORT/."""

import json
import sys

from websockets.sync.client import connect

with connect(sys.argv[1], proxy=None) as line:
    line.send(json.dumps({"subscribe": {"requestId": "1", "requestType": "EIDO", "requestSubType": "new"}}))
    for text in line:
        event = json.loads(text).get("event", {"notification": []})
        for eido in event["notification"]:
            said = eido["incidentComponent"]
            print(said["incidentStatusCommonRegistryText"], said["incidentTypeInternalText"], flush=True)
        if "transactionId" in event:
            taken = {"transactionId": event["transactionId"], "statusCode": 200, "statusText": "OK"}
            line.send(json.dumps({"eventResponse": taken}))
