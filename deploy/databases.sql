-- One database for each service, made when the volume is new.
create database broker;
create database connector;
