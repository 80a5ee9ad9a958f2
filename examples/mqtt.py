"""Take incidents from an MQTT broker: mqtt.py HOST PORT TOPIC [USER PASSWORD]."""

import json
import sys

import paho.mqtt.client as paho


def show(_client, _session, message):
    print(json.loads(message.payload)["data"]["properties"]["headline"], flush=True)


client = paho.Client(paho.CallbackAPIVersion.VERSION2)
client.on_message = show
client.on_connect = lambda *_: client.subscribe(sys.argv[3], qos=1)
client.on_subscribe = lambda *_: print("listening", flush=True)
if sys.argv[4:]:
    client.username_pw_set(*sys.argv[4:6])
client.connect(sys.argv[1], int(sys.argv[2]))
client.loop_forever()
