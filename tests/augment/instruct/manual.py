"""A small manual, as the readers leave it: every structure that pairs are made of, and what must not be one."""

from __future__ import annotations

VACUUM = """\
## 5.1. VACUUM

VACUUM — collect garbage

## Synopsis

```
VACUUM [ FULL ] [ VERBOSE ] [ table ]
```

## Description

`VACUUM` reclaims the storage that dead rows occupy. Rows that are deleted stay in their table until it is done (see \
Chapter 9). See Section 9.2 for how often that should be.

It can be run while others read and write the table. The steps are shown below.

## Parameters

`FULL`
This option selects a full vacuum, which can reclaim more space but takes an exclusive lock on the table.

`table`
The name of a specific table to vacuum. Defaults to all tables of the current database.

`SHORT`
Too short.

`ELSEWHERE`
See the description of the option of the same name in the reference page of ANALYZE.

## Examples

To clean a single table and say what is done:

```sql
VACUUM (VERBOSE) onek;
```

The above command prints a line for each index of the table.

To do it again:

```sql
VACUUM onek;
```

## See Also

ANALYZE
"""

TUNING = """\
# Tuning the server

## Creating an index

An index makes reading faster and writing slower. Create only those that your queries use:

- one on each foreign key
- one on what is sorted by most often

## Why is my query slow?

Most slow queries read a whole table, because no index fits or its statistics are old.

## Shared buffers

Shared buffers are the pages of tables that all sessions keep in memory together.

## Later chapters

This chapter tells of everything else.

## Settings

| Name | Description |
| --- | --- |
| `work_mem` | Sets the memory that a sort may use before it goes to disk. |
| `random_page_cost` | The planner's idea of what a page costs that is read out of order. |

```sql
SET work_mem = '64MB';
```

This sets the limit for the current session only, and leaves the others as they are.
"""

SPANISH = """\
# La configuración

## Los índices

Un índice hace más rápida la lectura de las filas y más lenta la escritura, así que conviene crear solamente los que \
las consultas usan de verdad, y borrar los demás cuando ya no se necesitan para nada.

## Las tablas

Cada tabla tiene sus filas en páginas del disco, y el servidor las lee una tras otra cuando ningún índice le sirve.
"""
