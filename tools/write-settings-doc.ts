/** Writes `docs/settings.md` from the settings table of vpc-cni. */
import { writeFileSync } from "node:fs";
import { formatSettingsDoc } from "../packages/vpc-cni/src/settings-doc.ts";

writeFileSync(new URL("../docs/settings.md", import.meta.url), formatSettingsDoc());
