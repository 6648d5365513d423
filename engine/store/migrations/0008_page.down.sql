DROP TABLE letters, broadcasts, subscribers, hosts, assets;
DELETE FROM settings WHERE key = 'signing';
