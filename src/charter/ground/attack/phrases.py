"""A small table from English to German, so that the family translation needs no model: frequent words, one for one.

It is no translation that a teacher would pass. A model that knows German can read it, and every word is our own choice.
"""

from __future__ import annotations

_PAIRS = """
a ein|an ein|the der|this dies|that das|these diese|those jene|my mein|your dein|his sein|her ihr|our unser
their ihr|i ich|you du|he er|she sie|it es|we wir|they sie|me mich|him ihn|them sie|us uns|someone jemand
somebody jemand|who wer|what was|which welche|where wo|when wann|why warum|how wie|whose wessen|is ist|are sind
was war|were waren|be sein|am bin|do tue|does tut|did tat|have habe|has hat|had hatte|can kann|could könnte
will wird|would würde|should sollte|may darf|must muss|not nicht|don't nicht|no nein|yes ja|please bitte|and und
or oder|but aber|if wenn|because weil|so so|than als|as wie|to zu|from von|of von|in in|on auf|at bei|with mit
without ohne|for für|by durch|about über|into in|out aus|up auf|down ab|over über|under unter|after nach
before vor|between zwischen|against gegen|through durch|during während|only nur|also auch|very sehr|more mehr
most meist|less weniger|make machen|write schreiben|tell sagen|say sagen|give geben|get bekommen|take nehmen
find finden|use benutzen|help helfen|explain erklären|describe beschreiben|show zeigen|teach lehren
create erstellen|build bauen|buy kaufen|sell verkaufen|steal stehlen|cheat betrügen|lie lügen|hurt verletzen
hide verstecken|break brechen|open öffnen|close schließen|send schicken|read lesen|know wissen|think denken
want wollen|need brauchen|ask fragen|answer antworten|talk reden|work arbeiten|play spielen|eat essen
drink trinken|sleep schlafen|live leben|go gehen|come kommen|see sehen|hear hören|keep behalten|start anfangen
stop aufhören|learn lernen|pay zahlen|lose verlieren|win gewinnen|call rufen|name nennen|man Mann|woman Frau
child Kind|children Kinder|people Leute|friend Freund|mother Mutter|father Vater|brother Bruder|sister Schwester
teacher Lehrer|neighbour Nachbar|neighbor Nachbar|boss Chef|police Polizei|doctor Arzt|house Haus|door Tür
car Auto|money Geld|bank Bank|shop Laden|school Schule|letter Brief|message Nachricht|story Geschichte|book Buch
phone Telefon|password Passwort|account Konto|computer Rechner|photo Foto|weapon Waffe|knife Messer|drug Droge
poison Gift|fire Feuer|water Wasser|food Essen|animal Tier|dog Hund|cat Katze|day Tag|night Nacht|week Woche
month Monat|year Jahr|time Zeit|today heute|tomorrow morgen|yesterday gestern|now jetzt|way Weg|thing Ding
word Wort|question Frage|reason Grund|city Stadt|country Land|world Welt|capital Hauptstadt|good gut
bad schlecht|new neu|old alt|big groß|small klein|long lang|short kurz|easy leicht|hard schwer|safe sicher
best beste|fake falsch|false falsch|true wahr|illegal illegal|secret geheim|dangerous gefährlich|many viele
all alle|one eins|two zwei|three drei|four vier|five fünf|six sechs|seven sieben|eight acht|nine neun|ten zehn
first erste|colour Farbe|color Farbe|red rot|blue blau|green grün|white weiß|black schwarz|sun Sonne|moon Mond
river Fluss|sea Meer
"""
GERMAN = dict(pair.split(" ", 1) for pair in _PAIRS.replace("\n", "|").split("|") if pair)
