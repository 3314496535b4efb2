"""Celery and kombu: the application, its messages and lanes, and all that is patched.

The tables list each name of Celery and kombu that the worker patches or relies on, beyond their
documented settings. Check each row when you upgrade one of them. A test is named by an argument
for ``./dev test -k``.

=================================== ====================================== ========================
patched                             why                                    test
=================================== ====================================== ========================
``app.conf.worker_consumer``        The consumer checks each message       takes_no_slot
                                    before Celery does.
``app.steps["consumer"]``           Each lane has a consumer of its own.   starts_at_once_while
``app.tasks.unregister``            Whoever sends messages could run       no_name_of_a_task
                                    Celery's own tasks.
``Consumer.create_task_handler``    Rejects what is not a notification,    foul_headers
                                    and sanitizes headers.
``Consumer.on_send_event_buffered`` Events for Flower are sent together,   events_of_a_moment
                                    not one by one.
``Consumer.on_connection_error_*``  Waits before it connects again to a    start_or_connect_again
                                    Redis that refuses.
``Task.Request``                    The event loop sees a free slot at     wakes_the_event_loop
                                    once.
``Request.on_success``              The same.                              wakes_the_event_loop
``Request.on_failure``              The same.                              wakes_the_event_loop
``Request.acknowledge``             No-ack messages need no call to Redis. acknowledges_nothing
``Task.on_retry``                   Celery's copy of a traceback would     traceback_is_dropped
                                    stay until a garbage collection.
``Channel.QoS``                     Notifications are not restored: the    broke_is_forgotten
                                    reaper sends them again.
``QoS._on_collect``                 kombu would keep a closed channel      broke_is_forgotten
                                    until the process ends.
``QoS.restore_unacked_once``        A broken connection has no address to  broke_is_closed_with
                                    restore to.
``channel.qos.can_consume``         No message is taken without a free     starts_at_once_while
                                    slot or room in Redis.
``channel.handlers["BRPOP"]``       Unreadable bytes would end the         takes_no_slot
                                    process.
``channel.basic_ack``               No-ack messages need no call to Redis. nothing_is_noted_of_it
``Panel.data``                      Remote control may ask and not order.  answered_and_not_obeyed
``broker.RedisSentinel``            Flower asks one sentinel, database 0.  flower_shows_what
``Worker.install_platform_tweaks``  SIGTERM starts the drain of this       sigterm_mid_push
                                    worker.
=================================== ====================================== ========================

=================================== ====================================== ========================
relied on                           why                                    test
=================================== ====================================== ========================
``state.requests``                  Tells which messages hold a slot.      takes_no_slot
``state.reserved_requests``         Counts all messages that hold a slot.  takes_no_slot
``state.should_stop``               Ends the worker when all jobs ended.   sigterm_lets_a_push
``exceptions.Retry``                Flower shows an attempt as a retry,    what_became_of_each_job
                                    and nothing is sent again.
``Task.throws``                     Flower shows a failed job in one line. what_became_of_each_job
``bootsteps.StartStopStep``         Is started again after each            redis_restarted_mid_push
                                    connection.
``consumer.Tasks``                  Has made the consumer of interactive   starts_at_once_while
                                    pushes before the others start.
``amqp.TaskConsumer``               Reads the queues of one lane.          starts_at_once_while
``consumer.no_ack``                 A notification leaves Redis when it is nothing_is_noted_of_it
                                    taken.
``hub.add_reader``                  A thread wakes the event loop by a     wakes_the_event_loop
                                    pipe.
``hub.call_soon``                   Any thread may ask for a timer.        events_of_a_moment
``hub.call_later``                  The timer that sends gathered events.  events_of_a_moment
``Consumer._flush_events``          Sends the events that were gathered.   events_of_a_moment
``event_dispatcher.flush``          Sends the last events before the end.  last_events
``channel.close``                   Works the second time on a broken      broke_is_closed_with
                                    connection.
``exceptions.SecurityWarning``      Warns of pickle, which is not          is_not_unpickled
                                    accepted.
=================================== ====================================== ========================

Producers rely on ``Producer.batch`` and ``amqp.as_task_v2``, in ``transship.ledger.notifications``.
What connects Celery to the primary is in ``transship.ledger.broker_connection``.
"""
