/** DynamoDB, as amazon/dynamodb-local offers it on port 8000: dynalite, in memory. */
import dynalite from "dynalite";

const server = dynalite({ createTableMs: 0, deleteTableMs: 0, updateTableMs: 0 });
server.listen(8000, () => console.log("DynamoDB Local: port 8000, in memory"));
process.on("SIGTERM", () => process.exit(0));
