"""A simulated pan-tilt-zoom camera that speaks ONVIF, with the faults real ones have.

    head      where the head is at a time, from the commands given to it; pure, in virtual time
    spaces    the coordinates ONVIF gives positions, translations and speeds in
    faults    what a camera may do wrong, each a switch
    soap      envelopes in and out       login   who may ask
    onvif     the operations of one camera, without a socket       service   HTTP around it, and what goes wrong there

`python -m firmware_sim.camera --port 8000` plays one in real time.
"""
