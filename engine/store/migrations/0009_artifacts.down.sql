DROP TABLE run_artifacts;
DROP TABLE artifacts;
