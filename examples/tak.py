"""Be a phone at a TAK server: tak.py HOST PORT."""

import re
import socket
import sys
from xml.etree import ElementTree as ET

line, heard = socket.create_connection((sys.argv[1], int(sys.argv[2]))), b""
while piece := line.recv(65_536):
    *whole, heard = re.split(rb"(?<=</event>)", heard + piece)
    for message in map(ET.fromstring, map(bytes.strip, whole)):
        shot, point = message.find("detail/{urn:agls:incident:1}_agls"), message.find("point")
        if shot is not None:
            print(message.find("detail/contact").get("callsign"), point.get("lat"), point.get("lon"), flush=True)
