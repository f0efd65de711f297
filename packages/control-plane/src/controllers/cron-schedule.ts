/** Cron expressions: five fields, names, steps, ranges, `@daily` and friends, in a time zone. Pure. */

const macros: Record<string, string> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};
const months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

export type Schedule = {
  readonly minutes: ReadonlySet<number>;
  readonly hours: ReadonlySet<number>;
  readonly daysOfMonth: ReadonlySet<number>;
  readonly months: ReadonlySet<number>;
  readonly daysOfWeek: ReadonlySet<number>;
  /** When both day fields are restricted, either may match. */
  readonly eitherDay: boolean;
};

/** Throws when the text is not a schedule. */
export function parseSchedule(text: string): Schedule {
  const fields = (macros[text.trim().toLowerCase()] ?? text).trim().split(/\s+/);
  const [minute, hour, dayOfMonth, month, dayOfWeek] = fields;
  if (fields.length !== 5 || !minute || !hour || !dayOfMonth || !month || !dayOfWeek) {
    throw new Error(`Cannot parse the schedule "${text}": it has ${fields.length} fields instead of 5`);
  }
  const restricted = (field: string) => !field.startsWith("*") && field !== "?";
  return {
    minutes: parseField(minute, 0, 59, []),
    hours: parseField(hour, 0, 23, []),
    daysOfMonth: parseField(dayOfMonth, 1, 31, []),
    months: parseField(month, 1, 12, months),
    daysOfWeek: new Set([...parseField(dayOfWeek, 0, 7, days)].map((day) => day % 7)),
    eitherDay: restricted(dayOfMonth) && restricted(dayOfWeek),
  };
}

/** The first minute after `after` that the schedule names, looking at most five years ahead. */
export function nextTime(schedule: Schedule, after: Date, timeZone = "UTC"): Date | undefined {
  const local = localClock(timeZone);
  let time = Math.floor(after.getTime() / 60_000) * 60_000 + 60_000;
  const end = time + 5 * 366 * 86_400_000;
  while (time < end) {
    const { month, day, weekday, hour, minute } = local(time);
    if (!schedule.months.has(month) || !matchesDay(schedule, day, weekday)) {
      // To the next local midnight (an hour early at most where clocks change).
      time += Math.max(1, (23 - hour) * 60 + (60 - minute)) * 60_000;
    } else if (!schedule.hours.has(hour)) time += (60 - minute) * 60_000;
    else if (!schedule.minutes.has(minute)) time += 60_000;
    else return new Date(time);
  }
  return undefined;
}

function matchesDay(schedule: Schedule, day: number, weekday: number): boolean {
  const byMonth = schedule.daysOfMonth.has(day);
  const byWeek = schedule.daysOfWeek.has(weekday);
  return schedule.eitherDay ? byMonth || byWeek : byMonth && byWeek;
}

function parseField(field: string, least: number, most: number, names: readonly string[]): Set<number> {
  const values = new Set<number>();
  const number = (text: string): number => {
    const named = names.indexOf(text.toLowerCase());
    const value = named >= 0 ? named + (least === 1 ? 1 : 0) : /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= least && value <= most))
      throw new Error(`Cannot parse the schedule field "${field}": "${text}" is not between ${least} and ${most}`);
    return value;
  };
  for (const part of field.split(",")) {
    const [range = "", stepText] = part.split("/");
    const step = stepText === undefined ? 1 : Number(stepText);
    if (!Number.isInteger(step) || step < 1)
      throw new Error(`Cannot parse the schedule field "${field}": step "${stepText}"`);
    const [firstText = "", lastText] = range.split("-");
    const any = range === "*" || range === "?";
    const first = any ? least : number(firstText);
    const last = any || (lastText === undefined && stepText !== undefined) ? most : number(lastText ?? firstText);
    for (let value = first; value <= last; value += step) values.add(value);
  }
  return values;
}

function localClock(timeZone: string) {
  const format = new Intl.DateTimeFormat("en-US", {
    timeZone,
    hourCycle: "h23",
    month: "numeric",
    day: "numeric",
    weekday: "short",
    hour: "numeric",
    minute: "numeric",
  });
  return (time: number) => {
    const parts = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, value]));
    return {
      month: Number(parts["month"]),
      day: Number(parts["day"]),
      weekday: days.indexOf((parts["weekday"] ?? "").toLowerCase()),
      hour: Number(parts["hour"]),
      minute: Number(parts["minute"]),
    };
  };
}
