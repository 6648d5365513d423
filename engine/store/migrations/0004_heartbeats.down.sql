DROP TABLE listening, signals, pings, pushed, ping_keys;
