"""The app this service replaces, as small and as fast as its shape allows: FastAPI, Celery and Redis.

    routes.py    POST /v1/generate and GET /v1/jobs/{id}, in one uvicorn process
    worker.py    the Celery app, whose one worker stores a picture of 32 x 32 that costs nothing to draw
    running.py   starts Redis, the worker and uvicorn on free ports, and stops them

It promises less: nothing is synced to disk before the 202, nor is the file; there are no owners, no resolved
order, no progress, and an unknown id is PENDING.
"""
